import pytest
from synthetic import claims


@pytest.fixture(scope="session")
def claims_file():
    return claims()
