"""The topic catalogue of the captured-tables file that the application ships."""

from typing import Final

from app.config.captured_tables import load_tables
from app.config.topics import Catalogue

CATALOGUE: Final = Catalogue(load_tables(None))
