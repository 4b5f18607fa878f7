"""Support code of the tests, one room per subject."""
