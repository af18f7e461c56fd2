"""The words of the shop: countries, names, products, browsers, searches, tickets. Data only."""

from __future__ import annotations

from typing import NamedTuple


class Country(NamedTuple):
    """Where customers live; `hours` is the offset of its clock from UTC, `weight` its share."""

    code: str
    language: str
    phone: str
    hours: int
    weight: float
    given: tuple[str, ...]
    family: tuple[str, ...]
    cities: tuple[str, ...]
    streets: tuple[str, ...]


class Category(NamedTuple):
    """A shelf of the shop: its words, price range in cents and share of interest."""

    slug: str
    nouns: tuple[str, ...]
    searches: tuple[str, ...]
    low: int
    high: int
    weight: float


COUNTRIES = (
    Country(
        "DE", "de-DE", "+49", 1, 20,
        ("Jürgen", "Anneliese", "Lukas", "Zoë", "Björn", "Käthe", "Mia", "Finn"),
        ("Müller", "Weiß", "Größmann", "Schröder", "Özdemir", "Krause", "von der Heide"),
        ("Berlin", "München", "Köln", "Düsseldorf"),
        ("Lindenstraße", "Am Mühlbach", "Schloßallee"),
    ),
    Country(
        "FR", "fr-FR", "+33", 1, 14,
        ("Chloé", "Gaël", "Hélène", "Benoît", "Loïc", "Maëlys", "Théo", "Anaïs"),
        ("Lefèvre", "Dubois", "D’Amboise", "Garçon", "Noël", "Béranger", "Le Goff"),
        ("Paris", "Lyon", "Besançon", "Orléans"),
        ("Rue de l’Église", "Allée des Chênes", "Quai Saint-Étienne"),
    ),
    Country(
        "GB", "en-GB", "+44", 0, 13,
        ("Oliver", "Siân", "Amelia", "Niamh", "Harriet", "Callum", "Zadie", "Priya"),
        ("O'Connor", "Smith-Jones", "Patel", "MacLeod", "Hughes", "Taylor", "Okafor"),
        ("London", "Manchester", "Bristol", "Stoke-on-Trent"),
        ("King's Road", "Abbey Lane", "Station Approach"),
    ),
    Country(
        "PL", "pl-PL", "+48", 1, 9,
        ("Łukasz", "Małgorzata", "Agnieszka", "Paweł", "Żaneta", "Krzysztof", "Zofia"),
        ("Wiśniewski", "Kowalczyk", "Dąbrowska", "Zieliński", "Wójcik", "Żak"),
        ("Warszawa", "Kraków", "Łódź", "Wrocław"),
        ("ulica Długa", "aleja Słowackiego", "plac Wolności"),
    ),
    Country(
        "ES", "es-ES", "+34", 1, 9,
        ("Íñigo", "Begoña", "José", "María", "Ángel", "Lucía", "Nuria", "Íker"),
        ("Muñoz", "García-Ibáñez", "Peña", "Núñez", "López", "Echeverría"),
        ("Madrid", "Málaga", "A Coruña", "Cádiz"),
        ("Calle del Príncipe", "Avenida de la Constitución", "Paseo Marítimo"),
    ),
    Country(
        "SE", "sv-SE", "+46", 1, 5,
        ("Åsa", "Göran", "Örjan", "Linnéa", "Elsa", "Nils", "Saga"),
        ("Åkesson", "Björklund", "Sjöström", "Lindqvist", "Öberg"),
        ("Stockholm", "Malmö", "Göteborg", "Umeå"),
        ("Storgatan", "Västra Hamngatan", "Björkvägen"),
    ),
    Country(
        "TR", "tr-TR", "+90", 3, 5,
        ("Ayşe", "İbrahim", "Gülşah", "Çağla", "Emre", "Işıl", "Ömer"),
        ("Yılmaz", "Şahin", "Çelik", "Öztürk", "Doğan", "Güneş"),
        ("İstanbul", "İzmir", "Eskişehir", "Şanlıurfa"),
        ("Atatürk Caddesi", "Gül Sokağı", "İnönü Bulvarı"),
    ),
    Country(
        "GR", "el-GR", "+30", 2, 4,
        ("Γιώργος", "Ελένη", "Νίκος", "Σοφία", "Κατερίνα", "Δημήτρης"),
        ("Παπαδόπουλος", "Γεωργίου", "Νικολαΐδης", "Αντωνίου"),
        ("Αθήνα", "Θεσσαλονίκη", "Πάτρα"),
        ("Οδός Ερμού", "Λεωφόρος Αλεξάνδρας"),
    ),
    Country(
        "UA", "uk-UA", "+380", 2, 4,
        ("Олександр", "Наталія", "Юлія", "Богдан", "Соломія", "Євген"),
        ("Шевченко", "Коваленко", "Мельник", "Гриценко", "Щербак", "Їжакевич"),
        ("Київ", "Львів", "Одеса"),
        ("вулиця Хрещатик", "проспект Свободи"),
    ),
    Country(
        "US", "en-US", "+1", -5, 6,
        ("Jayden", "Emily", "DeShawn", "Guadalupe", "Chuck", "Renée", "Xochitl"),
        ("Johnson", "Hernández", "Nguyen", "St. John", "Washington", "Kim"),
        ("New York", "Cañon City", "Boston", "Miami"),
        ("Main Street", "5th Avenue", "Martin Luther King Jr. Boulevard"),
    ),
    Country(
        "BR", "pt-BR", "+55", -3, 4,
        ("João", "Conceição", "Luís", "Antônia", "Thaís", "Iúri"),
        ("da Silva", "Gonçalves", "Araújo", "Simões", "Brandão"),
        ("São Paulo", "Brasília", "Florianópolis"),
        ("Rua São João", "Avenida Atlântica"),
    ),
    Country(
        "JP", "ja-JP", "+81", 9, 3,
        ("さくら", "陽斗", "美咲", "健太", "ひなた", "蓮"),
        ("佐藤", "鈴木", "髙橋", "渡邉", "小林"),
        ("東京", "大阪", "札幌"),
        ("丸の内", "本町通り"),
    ),
    Country(
        "IN", "hi-IN", "+91", 5, 2,
        ("आरव", "प्रिया", "रोहन", "अनन्या", "Lakshmi"),
        ("शर्मा", "पटेल", "Iyer", "सिंह"),
        ("मुंबई", "दिल्ली", "Bengaluru"),
        ("MG Road", "गांधी मार्ग"),
    ),
    Country(
        "EG", "ar-EG", "+20", 2, 2,
        ("محمد", "فاطمة", "يوسف", "مريم"),
        ("السيد", "حسن", "عبد الله"),
        ("القاهرة", "الإسكندرية"),
        ("شارع التحرير", "شارع النيل"),
    ),
)  # fmt: skip

CATEGORIES = (
    Category(
        "shoes", ("Trail Shoe", "Sneaker", "Boot", "Sandale", "Laufschuh"),
        ("laufschuhe herren", "white sneakers", "botas de montaña", "buty zimowe", "shoes 42"),
        3990, 18990, 14,
    ),
    Category(
        "jackets", ("Rain Jacket", "Parka", "Daunenjacke", "Windbreaker"),
        ("regenjacke damen", "parka homme", "winter jacket waterproof", "куртка зимова"),
        4990, 29990, 10,
    ),
    Category(
        "backpacks", ("Daypack", "Roll-top", "Trekkingrucksack", "Laptop Backpack"),
        ("rucksack 30l", "sac à dos", "laptop backpack 15 inch", "plecak szkolny"),
        2990, 19990, 8,
    ),
    Category(
        "coffee", ("Espresso Roast", "Filter Roast", "Hand Grinder", "Moka Pot", "Café de Olla"),
        ("espresso bohnen", "café en grains", "hand grinder", "καφές", "decaf"),
        690, 8990, 12,
    ),
    Category(
        "tea", ("Sencha", "Earl Grey", "Rooibos", "Gyokuro 玉露", "Matcha 抹茶"),
        ("matcha", "earl grey loose leaf", "grüner tee", "抹茶"),
        490, 4990, 6,
    ),
    Category(
        "kitchen", ("Chef’s Knife", "Cast Iron Pan", "Crêpière", "Salad Bowl", "Teapot"),
        ("chef knife", "gusseiserne pfanne", "crêpe pan", "nóż kuchenny"),
        990, 15990, 11,
    ),
    Category(
        "books", ("Cookbook", "Field Guide", "Roman", "Atlas", "Graphic Novel"),
        ("kochbuch vegan", "atlas der alpen", "roman policier", "fantasy series box set"),
        890, 4990, 12,
    ),
    Category(
        "headphones", ("Earbuds", "Over-Ear Headphones", "Studio Monitor", "Sport Earbuds"),
        ("noise cancelling headphones", "écouteurs sans fil", "earbuds usb-c", "kulaklık"),
        1990, 39990, 9,
    ),
    Category(
        "phones", ("Phone 128 GB", "Phone 256 GB", "Foldable", "Phone Case", "Charger 65 W"),
        ("phone 256gb", "handyhülle", "chargeur rapide", "foldable phone"),
        990, 119990, 6,
    ),
    Category(
        "bikes", ("City Bike", "Gravel Bike", "Child Seat", "Bike Light", "Fahrradschloss"),
        ("fahrradschloss", "gravel bike 56", "bike light usb", "siège enfant vélo"),
        1490, 249990, 4,
    ),
    Category(
        "garden", ("Watering Can", "Pruning Shears", "Raised Bed", "Tulip Bulbs", "Hängematte"),
        ("tulpenzwiebeln", "raised bed", "sécateur", "hamak"),
        490, 17990, 4,
    ),
    Category(
        "toys", ("Wooden Train", "Puzzle 1000", "Plush Fox 🦊", "Board Game", "Drachen"),
        ("puzzle 1000 teile", "board game 2 players", "jouet en bois", "lalka"),
        790, 9990, 4,
    ),
)  # fmt: skip

BRANDS = (
    "Nordlicht", "Küstenwind", "Atelier Lumière", "Żubr & Sons", "Peak & Pine", "Ōkami",
    "Señor Tostado", "Blåbær", "Meridian", "Hausmann", "Σelene", "Kestrel",
)  # fmt: skip
MODELS = ("Aurora", "Basalt", "Comet", "Delta", "Éclair", "Fjord", "Granite", "Harbour", "Ivy")
COLORS = ("black", "white", "olive", "bordeaux", "türkis", "sand", "crème", "navy")
MATERIALS = ("cotton", "wool", "recycled polyester", "steel", "oak", "leather", "paper")
TAGS = ("new", "bestseller", "sale", "eco", "gift", "limited", "été", "last-chance")

BROWSERS = (
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/131.0.0.0 Safari/537.36", 18),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0", 8),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0", 5),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
     "Version/18.1 Safari/605.1.15", 7),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/131.0.0.0 Safari/537.36", 6),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", 2),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 "
     "(KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1", 18),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 "
     "(KHTML, like Gecko) CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1", 4),
    ("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/131.0.0.0 Mobile Safari/537.36", 10),
    ("Mozilla/5.0 (Linux; Android 13; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) "
     "SamsungBrowser/26.0 Chrome/122.0.0.0 Mobile Safari/537.36", 9),
    ("Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0", 2),
    ("Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
     "Version/17.6 Mobile/15E148 Safari/604.1", 4),
    ("Mozilla/5.0 (Linux; Android 13; SM-X706B) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/130.0.0.0 Safari/537.36", 2),
    ("TidegateShop/5.12.1 (iOS 18.1; iPhone15,2)", 3),
    ("TidegateShop/5.12.0 (Android 14; SM-A546B)", 2),
)  # fmt: skip

BOT_AGENTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "python-requests/2.32.3",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Scrapy/2.11.2 (+https://scrapy.org)",
)

SHOP = "https://shop.example"
EXTERNAL_REFERRERS = (
    ("https://www.google.com/", 30),
    ("https://www.bing.com/", 4),
    ("https://duckduckgo.com/", 3),
    ("https://www.instagram.com/", 7),
    ("https://l.facebook.com/l.php", 6),
    ("https://t.co/9XkQb2", 2),
    ("https://www.youtube.com/watch?v=dQw4w9WgXcQ", 2),
    ("https://mail.example/newsletter/47", 6),
    ("https://price-radar.example/compare?q=schuhe", 4),
)
CAMPAIGNS = ("newsletter-47", "black-week", "retargeting", "influencer-été", "brand-search")

AGENTS = 24

TICKET_SUBJECTS = {
    "delivery": (
        "Where is my parcel?", "Paket nicht angekommen", "Colis endommagé à la livraison",
        "Paczka utknęła w sortowni",
    ),
    "payment": ("Charged twice", "Doppelte Abbuchung", "Remboursement non reçu", "PayPal hatası"),
    "product": ("Wrong size", "Teil fehlt in der Packung", "Pantalla rota", "色が違います"),
    "account": ("Cannot log in", "Passwort zurücksetzen", "Changer d’adresse", "Зміна пошти"),
    "fraud": (
        "I did not buy this!", "Unbekannte Bestellung auf meinem Konto",
        "Paiements frauduleux sur ma carte",
    ),
    "other": (
        "Gift wrapping?", "Öffnungszeiten Filiale", "Merci beaucoup 🙏", "Newsletter abmelden",
    ),
}  # fmt: skip
CUSTOMER_BODIES = (
    "Hello, I am still waiting. Could you have a look, please?",
    "Guten Tag, können Sie das bitte prüfen? Die Nummer steht oben. Grüße",
    "Bonjour,\nje n’ai pas reçu de réponse depuis trois jours.\nCordialement",
    "To już drugi raz w tym miesiącu 😡",
    "Thanks, that answers my question 👍",
    "Ürün beklediğim gibi değil, iade etmek istiyorum.",
    "ご確認をお願いいたします。",
    '"Delivered" it says, but nobody rang the bell.\tPhoto attached.',
    "Por favor, ¿cuándo llega el reembolso?",
)
AGENT_BODIES = (
    "We have checked with the carrier: the parcel arrives tomorrow.",
    "Danke für die Geduld, die Erstattung ist unterwegs.",
    "Bonjour, pourriez-vous nous envoyer une photo de l’étiquette ?",
    "I have passed this on to our specialists.",
)  # fmt: skip
LABEL_NOTES = (
    "cardholder disputes the charge",
    "confirmed with the customer by phone",
    "address and device known for years",
    "Kundin bestätigt den Kauf",
    "reason code 10.4 card absent",
)
