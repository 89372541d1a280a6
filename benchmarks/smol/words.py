"""Short English words in real fonts: to read, to choose, their letters, their length. No word is in two splits."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import ImageDraw

from benchmarks.smol.pictures import SIDE, canvas, dark, finish, font, lettered, split_among, written
from topovlm.reference.scenes import Question, Region, Scene, pick

FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSansMono-Bold",
)
WORDS = tuple("""
act add age ago aid aim air all and ant any ape apt arm art ask bad bag ball band bank bar base bat bath bay bean
bear beat bed bee bell belt best big bike bill bin bird bit blue boat body bold bone book boot born boss both bowl
box boy bread brick bring broad brown bug bus bush busy cab cake call calm camp can cap car card care cart case
cash cat cave cell chair chin city clay clean clear clip clock cloth cloud club coal coast coat code coin cold cook
cool copy corn cost cow crab crew crop crow cry cup cut dad dark date dawn day deal dear deep deer desk dew dice
dig dirt dish dog doll door dot down draw dream dress drink drop drum dry duck dust duty ear earth east easy eat
edge egg else end era eve even ever eye face fact fair fall fan far farm fast fat fear feel feet few field file
fill film find fire fish fit five flag flat floor flow fly fog food foot fork form four fox free frog from fruit
fuel full fun fur game gap gas gate gear gift girl give glad glass goal goat gold good grape grass gray great green
grow gum gun guy gym hair half hall ham hand hard hat head heat help hen herb hero high hill hint hip hole home
honey hook hope horn horse hot hour house hug hunt ice idea inch ink iron item jam jar jaw job join joke joy juice
jump jury just keep key kid kind king kiss kit knee knot lab lace lake lamb lamp land last late law lawn lead leaf
leg lemon lens less life lift light lime line lion lip list live lock log long look lot love low luck lunch lung
mad mail main make man map mark mask meal meat melt menu mess metal milk mill mind mine mint mix moon more moss
most moth mouse mouth move mud mug music nail name near neck need nest net new news next nice night nine node
noise north nose note now nut oak odd off oil old one onion open oven owl own page paint pair palm pan paper park
part past path paw pay pea peace pear pen pet photo piano pie pig pile pine pink pipe plan plane plant plate play
plum poem pond pool poor pork port post pot pride pump pure put queen quick quiet race radio rail rain ran rare
rat read real red rest rice rich ride ring river road rock roof room root rope rose row rug rule run safe sail
salt sand save school sea seat seed self sell send set sheep sheet ship shirt shoe shop short show side sign silk
sing six size skin sky sleep slow smile smoke snow soap sock soft soil song soup south spoon star steam steel step
stick stone stop storm sugar sun sweet swim table tail tall tank tape task tax tea team ten tent test text thin
tie tiger time tin tip toe tool tooth top town toy train tray tree trip truck tube two use van vase view voice wall
war warm wash water wave wax way web week well west wet wheel white wide wild win wind wing wise wolf wood wool
word work world yard year yes young zone zoo
""".split())  # fmt: skip


@cache
def pool(split: str) -> tuple[str, ...]:
    """Words that a split may use."""
    return tuple(WORDS[i] for i in split_among(WORDS, split))


def word(rng: np.random.Generator, split: str) -> Scene:
    """One word, as large as fits or a little smaller."""
    text = pick(rng, pool(split))
    while len(text) > 5:
        text = pick(rng, pool(split))
    face = pick(rng, FACES)
    size = int(rng.integers(24, 36))
    while font(face, size).getlength(text) > SIDE - 6:
        size -= 1
    image = canvas(rng)
    half = font(face, size).getlength(text) / 2
    middle = (rng.uniform(half + 2, SIDE - half - 2), rng.uniform(24, SIDE - 24))
    written(ImageDraw.Draw(image), middle, text, face, size, dark(rng))
    left = middle[0] - half
    ends = [left + font(face, size).getlength(text[:n]) for n in range(len(text) + 1)]
    regions = [
        Region(
            0, (ends[n], middle[1] - size / 2, ends[n + 1], middle[1] + size / 2), {"letter": ord(one) - 97}
        )
        for n, one in enumerate(text)
    ]
    alike = [other for other in pool(split) if len(other) == len(text) and other != text]
    asked = [
        Question("word_read", "Which word is written?", text, chance=0.0),
        Question("word_read", "What does the text say?", text, chance=0.0),
        lettered(rng, "word_choice", "Which word is in the picture?", text, alike),
        Question("word_letter", "What is the first letter of the word?", text[0], chance=1 / 26),
        Question("word_letter", "What is the last letter of the word?", text[-1], chance=1 / 26),
        Question("word_length", "How many letters does the word have?", str(len(text)), "number", 1 / 3),
    ]
    return Scene([finish(image, rng)], asked, regions)
