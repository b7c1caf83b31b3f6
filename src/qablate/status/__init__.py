"""What a study is doing: the state of every cell (`survey`), shown (`screen`). Needs neither torch nor pandas."""
