"""Holds the data of the simulated people and shops (names, cities, merchants) and draws from it. Pure."""

from dataclasses import dataclass
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class City:
    """A city where customers live and shop. Coordinates are in degrees."""

    name: str
    country_code: str
    currency: str
    latitude: float
    longitude: float
    phone_prefix: str


@dataclass(frozen=True, slots=True)
class Trade:
    """A kind of shop: its merchant category code (ISO 18245), the number of shops, and the median payment."""

    category: str
    label: str
    merchants: int
    median_minor: int
    online: bool = False


CITIES: Final = (
    City("Berlin", "DE", "EUR", 52.5200, 13.4050, "+49 30"),
    City("München", "DE", "EUR", 48.1374, 11.5755, "+49 89"),
    City("Köln", "DE", "EUR", 50.9375, 6.9603, "+49 221"),
    City("Wien", "AT", "EUR", 48.2082, 16.3738, "+43 1"),
    City("Zürich", "CH", "CHF", 47.3769, 8.5417, "+41 44"),
    City("Paris", "FR", "EUR", 48.8566, 2.3522, "+33 1"),
    City("Lyon", "FR", "EUR", 45.7640, 4.8357, "+33 4"),
    City("Amsterdam", "NL", "EUR", 52.3676, 4.9041, "+31 20"),
    City("Bruxelles", "BE", "EUR", 50.8503, 4.3517, "+32 2"),
    City("Madrid", "ES", "EUR", 40.4168, -3.7038, "+34 91"),
    City("Málaga", "ES", "EUR", 36.7213, -4.4214, "+34 95"),
    City("Lisboa", "PT", "EUR", 38.7223, -9.1393, "+351 21"),
    City("Milano", "IT", "EUR", 45.4642, 9.1900, "+39 02"),
    City("Roma", "IT", "EUR", 41.9028, 12.4964, "+39 06"),
    City("Dublin", "IE", "EUR", 53.3498, -6.2603, "+353 1"),
    City("London", "GB", "GBP", 51.5072, -0.1276, "+44 20"),
    City("Edinburgh", "GB", "GBP", 55.9533, -3.1883, "+44 131"),
    City("Helsinki", "FI", "EUR", 60.1699, 24.9384, "+358 9"),
    City("Kraków", "PL", "EUR", 50.0647, 19.9450, "+48 12"),
    City("Αθήνα", "GR", "EUR", 37.9838, 23.7275, "+30 21"),
)
BY_NAME: Final = {city.name: city for city in CITIES}

TRADES: Final = (
    Trade("5411", "groceries", 400, 2_850),
    Trade("5812", "restaurant", 600, 3_400),
    Trade("5814", "fast food", 300, 1_150),
    Trade("5541", "fuel", 150, 5_600),
    Trade("4111", "local transport", 60, 390),
    Trade("5912", "pharmacy", 120, 1_480),
    Trade("5651", "clothing", 200, 6_200),
    Trade("5732", "electronics", 80, 14_900),
    Trade("5942", "books", 60, 1_690),
    Trade("7832", "cinema", 40, 2_200),
    Trade("5311", "department store", 50, 4_800),
    Trade("5999", "web shop", 500, 3_900, online=True),
    Trade("5815", "streaming", 20, 1_299, online=True),
    Trade("4722", "travel agency", 40, 18_000, online=True),
    Trade("5818", "software", 60, 1_900, online=True),
)
SHOPS: Final = tuple(trade for trade in TRADES if not trade.online)
WEB_SHOPS: Final = tuple(trade for trade in TRADES if trade.online)

FIRST_NAMES: Final = (
    "Ada", "Aoife", "Björn", "Camille", "Chiara", "Daniel", "Eleni", "Emre", "Fatima", "Felix", "Giulia", "Grace", "Hanna", "Ibrahim",
    "Inês", "Jakub", "José", "Katarzyna", "Léa", "Lars", "Leila", "Liam", "Lukas", "Maëlle", "Marta", "Mehmet", "Mia", "Niamh", "Noah",
    "Olga", "Pablo", "Priya", "Quentin", "Rosa", "Sami", "Siobhán", "Sofia", "Theo", "Ümit", "Valentina", "Wei", "Yasmin", "Zoë",
)  # fmt: skip
LAST_NAMES: Final = (
    "Ackermann", "Almeida", "Bauer", "Beaumont", "Bianchi", "Byrne", "Castellanos", "de Vries", "Demir", "Dubois", "Eriksson", "Ferreira",
    "García", "Gruber", "Haddad", "Hoffmann", "Íñiguez", "Jansen", "Kowalski", "Lefèvre", "Li", "López", "MacDonald", "Marchetti", "Meyer",
    "Müller", "Nowak", "O'Connor", "Papadopoulos", "Patel", "Peeters", "Quinn", "Rossi", "Schröder", "Silva", "Smith", "Stewart", "Tanaka",
    "van den Berg", "Virtanen", "Weiß", "Yılmaz", "Zimmermann",  # noqa: RUF001 - the correct spelling
)  # fmt: skip
STREETS: Final = (
    "Hauptstraße", "Rue de la Paix", "High Street", "Via Roma", "Calle Mayor", "Station Road", "Marktplatz", "Avenue Victor Hugo",
    "Lindenweg", "Church Lane", "Kerkstraat", "Rua Augusta", "Corso Italia", "Mannerheimintie", "Ulica Długa",
)  # fmt: skip
MAIL_DOMAINS: Final = ("example.com", "example.org", "example.net", "mail.example")

CHEAPEST_MINOR: Final = 210
"""Minimum of an ordinary purchase, above the small amounts by which card testing is recognised."""
DEAREST_MINOR: Final = 45_000
"""Maximum of an ordinary purchase, low enough that the rule for large amounts does not fire."""


def amount_minor(random: Random, median_minor: int) -> int:
    """Returns a log-normal amount around the median, between CHEAPEST_MINOR and DEAREST_MINOR."""
    drawn = round(median_minor * random.lognormvariate(0, 0.55))
    return min(max(drawn, CHEAPEST_MINOR), DEAREST_MINOR)


def merchant_id(random: Random, trade: Trade) -> str:
    """Returns the id of one of a trade's shops. The first shops have most customers."""
    return f"M{trade.category}{int(trade.merchants * random.random() ** 2):04d}"


def full_name(random: Random) -> str:
    """Returns a person's name."""
    return f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}"


def email(random: Random, customer_id: int) -> str:
    """Returns an address that no other customer has, in a domain that is reserved for examples."""
    return f"c{customer_id}.{random.randrange(10_000)}@{random.choice(MAIL_DOMAINS)}"


def address_line(random: Random) -> str:
    """Returns a street and house number."""
    return f"{random.choice(STREETS)} {random.randrange(1, 200)}"


def phone(random: Random, city: City) -> str:
    """Returns a phone number with the city's prefix."""
    return f"{city.phone_prefix} {random.randrange(1_000_000, 9_999_999)}"
