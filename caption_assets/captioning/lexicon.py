"""Word lists of the drift check: numbers, units, colours, function words, well-known names.

They are for English. Written for this project; every word that means something else in everyday prose (nice, turkey,
may, rose) is left out of the lists that count without a capital letter.
"""

from collections.abc import Mapping


def _list(text: str) -> list[str]:
    return text.split()


STOP_WORDS = frozenset(
    _list(
        """
        a about above across after again against ago ahead all almost along already also although always am amid
        amidst among amongst an and another any anyone anything are around as aside at away back be became
        because become becomes been before behind being below beneath beside besides between beyond both but by
        can cannot could despite did do does doing done down due during each either else enough etc even ever
        every everyone everything except few first for forth from further get gets getting given go goes had has
        have having he hence her here hers herself him himself his how however i if in indeed inside instead
        into is it its itself just last later least less let like made make makes making many may me meanwhile
        might mine more most much must my myself near nearby neither next no nobody none nor not nothing now of
        off often on once one ones only onto or other others our ours out outside over own per perhaps quite
        rather really same second seem seemed seeming seems several shall she should since so some someone
        something soon still such than that the their theirs them themselves then there therefore these they
        this those though through throughout thus to together too toward towards under underneath until up upon
        us use used using very via was we well were what when whenever where whereas wherever whether which
        while who whole whom whose why will with within without would yet you your yours aren't can't couldn't
        didn't doesn't don't hadn't hasn't haven't isn't mustn't shouldn't wasn't weren't won't wouldn't i'm
        it's there's that's they're he's she's you're we're i'd i'll i've you'll they'll
        """
    )
)

FRAMING = frozenset(
    _list(
        """
        video videos clip clips scene scenes footage film films image images picture pictures photo frame frames
        shot shots camera cameras view views show shows showing shown see sees seen depict depicts depicted
        feature features featuring capture captures captured appear appears begin begins start starts end ends
        """
    )
)
"""Words that say that there is a video, not what is in it: losing them loses no content."""

CAPITAL_WORDS = frozenset(
    _list(
        """
        tv cctv led lcd gps suv suvs ufo dj ok am pm hd uhd rgb cgi fps pov gopro vr ui diy vip rv sun moon
        earth internet christmas north south east west northern southern eastern western t-shirt god mr mrs ms
        dr caption captions
        """
    )
)
"""Words that often have capitals without naming anybody or any place."""

ABBREVIATIONS = frozenset(_list("mr mrs ms dr prof st mt ft no vs approx e.g i.e etc jr sr inc co u.s u.k a.m p.m"))
"""Words whose full stop does not end a sentence."""

NAME_LINKS = frozenset(_list("of de del della di da du la le van von der the"))
"""Words that stand inside a name, between two capitals."""

UNITS_OF_ONE = {
    word: value
    for value, word in enumerate(
        _list(
            """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen
        """
        )
    )
}
TENS = {word: 10 * n for n, word in enumerate(_list("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)}
SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
COUNT_WORDS: Mapping[str, int] = {"dozen": 12, "trio": 3, "triplets": 3, "thrice": 3, "quartet": 4, "quintet": 5}
PAIR_WORDS = frozenset(_list("both couple pair pairs twin twins twice duo double"))
"""Say two in passing: they bear out a two, but are no claim themselves (a pair of shoes, a couple)."""
ONE_WORDS = frozenset(_list("one single alone lone once first 1st second 2nd"))
"""Say one, or put things in order: no claim that has to be borne out."""
MANY_WORDS = frozenset(_list("dozens hundreds thousands millions billions"))
ORDINALS: Mapping[str, int] = {
    word: value
    for value, word in enumerate(
        _list(
            """
        third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
        sixteenth seventeenth eighteenth nineteenth twentieth
        """
        ),
        start=3,
    )
}

UNITS: Mapping[str, str] = {
    form: unit
    for unit, forms in {
        "km/h": "km/h kmh kph",
        "mph": "mph",
        "m/s": "m/s",
        "km": "km kilometer kilometers kilometre kilometres",
        "m": "m meter meters metre metres",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "mm": "mm millimeter millimeters millimetre millimetres",
        "mile": "mile miles mi",
        "foot": "foot feet ft",
        "inch": "inch inches",
        "yard": "yard yards",
        "ms": "ms millisecond milliseconds",
        "s": "s sec secs second seconds",
        "min": "min mins minute minutes",
        "h": "h hr hrs hour hours",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "year years",
        "%": "percent percentage",
        "degree": "degree degrees",
        "°F": "°f",
        "kg": "kg kilogram kilograms kilo kilos",
        "lb": "lb lbs pound pounds",
        "dollar": "dollar dollars usd",
        "euro": "euro euros eur",
        "px": "px pixel pixels",
        "fps": "fps",
    }.items()
    for form in forms.split()
}

_FAMILIES = {
    "red": "red crimson scarlet maroon vermilion burgundy ruby cherry",
    "pink": "pink magenta fuchsia rose salmon coral",
    "orange": "orange amber copper peach",
    "yellow": "yellow golden gold amber mustard blond blonde lemon",
    "green": "green emerald jade olive lime mint turquoise teal cyan",
    "blue": "blue azure navy indigo cobalt sapphire turquoise teal cyan aqua",
    "purple": "purple violet lavender lilac magenta mauve plum indigo",
    "brown": "brown beige tan bronze chestnut chocolate copper brunette khaki",
    "black": "black ebony",
    "white": "white ivory cream beige pearl",
    "grey": "grey gray silver silvery charcoal",
}
WEAK_COLORS = frozenset(
    _list(
        """
        ruby cherry rose salmon coral amber copper peach gold mustard lemon emerald jade olive lime mint aqua
        lavender plum tan bronze chestnut chocolate khaki ivory cream pearl charcoal sapphire ebony
        """
    )
)
"""Colours that are things as well: they bear out a colour, but claim one only beside a word such as `hue`."""
HUE_WORDS = frozenset(
    _list(
        """
        colored coloured color colour colors colours hue hues hued tone tones toned tint tints tinted shade
        shades
        """
    )
)


_PLAIN_COLORS = _list("red pink orange yellow green blue purple brown black white grey gray")
"""Colours that are compared (greener, reddest) and become verbs (whitened)."""


def _color_forms() -> dict[str, frozenset[str]]:
    families: dict[str, set[str]] = {}
    for family, words in _FAMILIES.items():
        for word in words.split():
            forms = [word] if word in WEAK_COLORS else [word, word + "s"]
            if word in _PLAIN_COLORS:
                stem = "redd" if word == "red" else word.removesuffix("e")
                forms += [stem + ending for ending in ("ish", "er", "est", "en", "ened", "ening")]
            for form in forms:
                families.setdefault(form, set()).add(family)
    del families["oranges"]  # fruit
    return {word: frozenset(found) for word, found in families.items()}


COLORS: Mapping[str, frozenset[str]] = _color_forms()
"""Colour words with their inflections, and the families that each belongs to: two words agree where they share one."""

NEGATIONS = frozenset(_list("no not never nobody none nothing without neither nor cannot"))
NOT_NEGATIONS = frozenset(_list("only just merely simply least doubt longer"))
"""Words that take the meaning of a negation away when they follow it."""

ALIKE: Mapping[str, int] = {
    word: group
    for group, words in enumerate(
        (
            "car vehicle automobile auto sedan traffic",
            "bus coach",
            "taxi cab",
            "street road avenue boulevard roadway",
            "sidewalk pavement footpath",
            "city urban cityscape town metropolis downtown metropolitan",
            "man male guy gentleman person",
            "woman female lady person",
            "people person pedestrian crowd figure individual passerby",
            "child kid boy girl youngster toddler",
            "dog canine puppy pup",
            "cat feline kitten",
            "rabbit bunny hare",
            "ocean sea water",
            "beach shore shoreline coast seaside",
            "wave surf",
            "hill slope hillside",
            "snow snowy snowfall",
            "forest wood woodland",
            "tree leaf foliage",
            "path trail track",
            "meadow field grass",
            "walk stroll wander amble stride",
            "run sprint dash race",
            "drive cruise",
            "talk chat converse conversation speak",
            "sit seat",
            "cut chop slice dice",
            "look gaze watch observe",
            "photo photograph picture",
            "luggage suitcase bag baggage",
            "big large huge",
            "small little tiny",
            "fast quick rapid swift",
            "slow gentle",
            "night nighttime evening nocturnal",
            "building skyscraper structure tower",
            "cloud cloudy overcast",
            "sunlight sunshine sun",
            "crosswalk crossing",
            "board enter",
            "stop brake halt",
        )
    )
    for word in words.split()
}
"""Everyday words that stand for each other in captions, by group: a paraphrase is no lost content."""

IRREGULAR: Mapping[str, str] = {
    form: base
    for base, forms in {
        "man": "men",
        "woman": "women",
        "child": "children",
        "person": "persons people",
        "foot": "feet",
        "tooth": "teeth",
        "leaf": "leaves",
        "knife": "knives",
        "run": "ran running",
        "drive": "drove driven",
        "ride": "rode ridden",
        "sit": "sat",
        "stand": "stood",
        "fall": "fell fallen",
        "fly": "flew flown flies",
        "come": "came",
        "take": "took taken",
        "write": "wrote written",
        "hold": "held",
        "leave": "left",
        "speak": "spoke spoken",
        "wear": "wore worn",
        "throw": "threw thrown",
        "rise": "rose risen",
        "swim": "swam swum",
        "eat": "ate eaten",
        "shine": "shone",
        "catch": "caught",
        "put": "puts putting",
        "hit": "hits hitting",
        "lead": "led",
        "sing": "sang sung",
        "win": "won",
        "ring": "rang rung",
        "swing": "swung",
        "slide": "slid",
        "hide": "hid hidden",
        "build": "built",
        "lie": "lay lain lying",
    }.items()
    for form in forms.split()
}

TASK_WORDS = frozenset(_list("caption captions caption's paraphrase paraphrased rewording"))
FIRST_PERSON = frozenset(_list("i i'm i'd i'll i've my"))
TASK_OPENINGS = (
    "sure",
    "certainly",
    "of course",
    "here is",
    "here's",
    "here are",
    "i'm sorry",
    "i am sorry",
    "i cannot",
    "i can't",
    "i would",
    "as an ai",
)
"""How an answer begins that speaks to whoever asked, and is not the caption alone."""

CALENDAR = frozenset(
    _list(
        """
        monday tuesday wednesday thursday friday saturday sunday january february april june july september
        october november december halloween easter thanksgiving ramadan diwali hanukkah
        """
    )
)

_PLACES = """
afghanistan/afghan; albania/albanian; algeria/algerian; angola; argentina/argentinian/argentine; armenia/armenian;
australia/australian; austria/austrian; azerbaijan; bahrain; bangladesh/bangladeshi; belarus; belgium/belgian;
bolivia; bosnia; botswana; brazil/brazilian; bulgaria/bulgarian; cambodia/cambodian; cameroon; canada/canadian;
chile/chilean; colombia/colombian; congo; costa rica; croatia/croatian; cuba/cuban; cyprus; czech
republic/czechia/czech; denmark/danish; ecuador; egypt/egyptian; england/english; estonia; ethiopia/ethiopian;
europe/european; finland/finnish; france/french; germany/german; ghana; great britain/britain/british/united
kingdom/uk; greece/greek; guatemala; haiti; hawaii/hawaiian; honduras; hungary/hungarian; iceland/icelandic;
india/indian; indonesia/indonesian; iran/iranian; iraq/iraqi; ireland/irish; israel/israeli; italy/italian;
jamaica/jamaican; japan/japanese; kazakhstan; kenya/kenyan; korea/korean/south korea/north korea; kuwait; laos;
latvia; lebanon/lebanese; libya; lithuania; luxembourg; madagascar; malaysia/malaysian; maldives; malta;
mexico/mexican; moldova; monaco; mongolia/mongolian; morocco/moroccan; myanmar; namibia; nepal;
netherlands/holland/dutch; new zealand; nicaragua; nigeria/nigerian; norway/norwegian; pakistan/pakistani; palestine;
panama; paraguay; peru/peruvian; philippines/filipino; poland; portugal/portuguese; puerto rico; qatar;
romania/romanian; russia/russian; rwanda; saudi arabia; scotland/scottish; senegal; serbia; singapore; slovakia;
slovenia; somalia; south africa; spain/spanish; sri lanka; sudan; sweden/swedish; switzerland/swiss; syria; taiwan;
tanzania; thailand/thai; tunisia; uganda; ukraine/ukrainian; united states/america/american/usa/u.s; united arab
emirates/emirates; uruguay; venezuela; vietnam/vietnamese; wales/welsh; yemen; zambia; zimbabwe; africa/african;
asia/asian; antarctica; alabama; alaska; arizona; arkansas; california/californian; colorado; connecticut; delaware;
florida; idaho; illinois; indiana; iowa; kansas; kentucky; louisiana; maine; maryland; massachusetts; michigan;
minnesota; mississippi; missouri; montana; nebraska; nevada; new hampshire; new jersey; north carolina; ohio;
oklahoma; oregon; pennsylvania; tennessee; texas/texan; utah; vermont; virginia; wisconsin; wyoming; new
york/nyc/manhattan; brooklyn; harlem; los angeles; hollywood; chicago; houston; philadelphia; san antonio; san diego;
dallas; san francisco; seattle; denver; boston; detroit; nashville; las vegas; portland; memphis; baltimore; miami;
atlanta; orlando; new orleans; minneapolis; cleveland; pittsburgh; cincinnati; honolulu; washington; toronto;
montreal; vancouver; ottawa; calgary; quebec; mexico city; guadalajara; havana; bogota; quito; caracas; santiago;
buenos aires; montevideo; rio de janeiro; sao paulo; brasilia; london/londoner; manchester; liverpool; birmingham;
edinburgh; glasgow; dublin; belfast; cardiff; oxford; paris/parisian; marseille; lyon; bordeaux; strasbourg; toulouse;
brussels; antwerp; amsterdam; rotterdam; utrecht; the hague; berlin; hamburg; munich; frankfurt; stuttgart;
dusseldorf; dresden; leipzig; vienna/viennese; salzburg; zurich; geneva; basel; rome; milan; venice/venetian;
florence; naples; turin; sicily; tuscany; bologna; madrid; barcelona; seville; valencia; lisbon; porto; athens;
thessaloniki; santorini; istanbul; ankara; copenhagen; stockholm; oslo; helsinki; reykjavik; warsaw; krakow; prague;
budapest; bucharest; sofia; belgrade; zagreb; kyiv/kiev; moscow; saint petersburg/st petersburg; minsk; vilnius; riga;
tallinn; tel aviv; jerusalem; beirut; damascus; baghdad; tehran; dubai; abu dhabi; doha; riyadh; mecca; cairo;
alexandria; casablanca; marrakech; tunis; tripoli; nairobi; lagos; accra; dakar; addis ababa; johannesburg; cape town;
durban; delhi/new delhi; mumbai/bombay; kolkata; chennai; bangalore/bengaluru; hyderabad; karachi; lahore; islamabad;
dhaka; kathmandu; colombo; bangkok; phuket; hanoi; saigon/ho chi minh city; phnom penh; kuala lumpur; jakarta; bali;
manila; hong kong; macau; taipei; beijing; shanghai; shenzhen; guangzhou; chengdu; wuhan; tokyo; osaka; kyoto;
hiroshima; nagoya; seoul; busan; sydney; melbourne; brisbane; perth; adelaide; auckland; wellington; times square;
central park; eiffel tower; golden gate; big ben; statue of liberty; empire state building; white house; buckingham
palace; trafalgar square; piccadilly circus; red square; taj mahal; great wall; mount fuji; mount everest; grand
canyon; niagara falls; champs elysees; notre dame; colosseum; louvre; hyde park; wall street; broadway; alcatraz;
silicon valley; yosemite; yellowstone; himalayas; sahara; alps; rocky mountains; amazon river; caribbean;
mediterranean; pacific; atlantic; hudson river; thames; seine; danube; disneyland
"""

_PEOPLE = """
emily sarah emma olivia sophia isabella charlotte amelia jessica jennifer amanda ashley melissa michelle kimberly
elizabeth stephanie nicole rebecca rachel laura samantha katherine catherine alexandra victoria natalie hannah anna
maria julia alice lucy luna chloe zoe elena sofia nina lisa linda barbara susan nancy karen margaret james john robert
michael william david richard joseph thomas charles christopher daniel matthew anthony steven andrew joshua kenneth
kevin brian george edward ronald timothy jason jeffrey ryan jacob gary nicholas eric jonathan stephen larry justin
scott brandon benjamin samuel gregory alexander patrick raymond dennis tyler aaron jose henry adam douglas nathan
peter zachary kyle ethan noah liam oliver lucas mateo pierre jean juan carlos luis miguel ahmed mohammed ali omar
hiroshi kenji yuki wei raj priya ivan dmitri
"""

_BRANDS = """
toyota honda nissan mazda hyundai volkswagen bmw audi mercedes porsche ferrari lamborghini tesla chevrolet volvo
renault peugeot citroen fiat skoda subaru lexus bentley cadillac chrysler yamaha kawasaki ducati harley boeing airbus
google facebook instagram youtube tiktok netflix disney pixar samsung sony nokia microsoft coca-cola pepsi mcdonald
starbucks nike adidas gucci prada rolex lego nintendo playstation spongebob superman batman
"""


def _names() -> dict[tuple[str, ...], str]:
    named: dict[tuple[str, ...], str] = {}
    for entry in " ".join(_PLACES.split()).split(";"):
        spellings = [tuple(spelling.split()) for spelling in entry.strip().split("/")]
        named.update(dict.fromkeys(spellings, " ".join(spellings[0])))
    for word in (*_PEOPLE.split(), *_BRANDS.split(), *CALENDAR):
        named.setdefault(tuple(word.split("-")), word)
    return named


WELL_KNOWN: Mapping[tuple[str, ...], str] = _names()
"""Names that count wherever they stand and however they are written: their words, folded, and what they name."""

KNOWN_WORDS: Mapping[str, frozenset[str]] = {
    name: frozenset(word for spelling, other in WELL_KNOWN.items() if other == name for word in spelling)
    for name in set(WELL_KNOWN.values())
}
"""The words of all spellings of what a well-known name names."""

LONGEST_NAME = max(map(len, WELL_KNOWN))
