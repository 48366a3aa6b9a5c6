"""Draws images with their captions below: `scenes.py CAPTIONS.jsonl IMAGE.png`; paths in the file are read from here."""

import json
import sys

from PIL import Image, ImageDraw, ImageFont

COLUMNS, SIDE, GAP, LINES = 5, 190, 14, 3
TEXT, PAPER = "#24292f", "#ffffff"


def wrapped(draw, text, font):
    """The text in lines that are no wider than an image."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= SIDE:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def main():
    """Draws them."""
    captions, target = sys.argv[1:]
    with open(captions, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:COLUMNS]
    font = ImageFont.load_default(15)
    width = GAP + len(rows) * (SIDE + GAP)
    sheet = Image.new("RGB", (width, SIDE + 2 * GAP + LINES * 20), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, row in enumerate(rows):
        left = GAP + index * (SIDE + GAP)
        image = Image.open(row["image"]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(image, (left, GAP))
        draw.rectangle((left, GAP, left + SIDE - 1, GAP + SIDE - 1), outline="#d0d7de")
        for number, line in enumerate(wrapped(draw, row["caption"], font)):
            draw.text((left, SIDE + GAP + 8 + 20 * number), line, fill=TEXT, font=font)
    sheet.quantize(128).save(target, optimize=True)


main()
