"""Makes an SVG of a terminal's screen, as `tmux capture-pane -e -p` gives it: `terminal.py SCREEN.txt IMAGE.svg`."""

import html
import re
import sys

WIDTH, HEIGHT, SIZE, MARGIN = 8.43, 18, 14, 12
PAPER, INK = "#0d1117", "#c9d1d9"
COLORS = [
    "#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
    "#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff",
]  # fmt: skip


def indexed(number):
    """One of a terminal's 256 colors."""
    if number < 16:
        return COLORS[number]
    if number >= 232:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    levels = [0, 95, 135, 175, 215, 255]
    number -= 16
    return "#" + "".join(f"{levels[part]:02x}" for part in (number // 36, number // 6 % 6, number % 6))


class Style:
    """How text looks from here on."""

    def __init__(self):
        self.reset()

    def reset(self):
        """Plain."""
        self.ink, self.paper, self.bold, self.reverse = None, None, False, False

    def take(self, codes):
        """Heeds the numbers of one escape sequence."""
        codes = [int(code or 0) for code in codes]
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.reset()
            elif code == 1:
                self.bold = True
            elif code == 22:
                self.bold = False
            elif code in (7, 27):
                self.reverse = code == 7
            elif 30 <= code <= 37 or 90 <= code <= 97:
                self.ink = COLORS[code - 30 if code < 90 else code - 82]
            elif 40 <= code <= 47 or 100 <= code <= 107:
                self.paper = COLORS[code - 40 if code < 100 else code - 92]
            elif code == 39:
                self.ink = None
            elif code == 49:
                self.paper = None
            elif code in (38, 48):
                if codes.pop(0) == 5:
                    color = indexed(codes.pop(0))
                else:
                    color = "#" + "".join(f"{codes.pop(0):02x}" for _ in range(3))
                if code == 38:
                    self.ink = color
                else:
                    self.paper = color

    def colors(self):
        """Ink and paper."""
        ink, paper = self.ink or INK, self.paper
        return (paper or PAPER, ink) if self.reverse else (ink, paper)


def drawn(lines):
    """The lines as elements."""
    style = Style()
    for row, line in enumerate(lines):
        column, top = 0, MARGIN + row * HEIGHT
        for escape, text in re.findall(r"\x1b\[([\d;]*)m|([^\x1b]+)", line):
            if not text:
                style.take(escape.split(";"))
                continue
            ink, paper = style.colors()
            left, wide = MARGIN + column * WIDTH, len(text) * WIDTH
            if paper:
                yield f'<rect x="{left:.1f}" y="{top}" width="{wide:.1f}" height="{HEIGHT}" fill="{paper}"/>'
            if text.strip():
                bold = ' font-weight="bold"' if style.bold else ""
                yield (
                    f'<text x="{left:.1f}" y="{top + 13}" fill="{ink}"{bold} textLength="{wide:.1f}"'
                    f' xml:space="preserve">{html.escape(text)}</text>'
                )
            column += len(text)


def main():
    """Draws the screen."""
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as screen:
        lines = screen.read().rstrip("\n").split("\n")
    columns = max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines)
    width, height = 2 * MARGIN + columns * WIDTH, 2 * MARGIN + len(lines) * HEIGHT
    with open(target, "w", encoding="utf-8") as image:
        image.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
            f' font-family="ui-monospace, SFMono-Regular, Menlo, DejaVu Sans Mono, monospace" font-size="{SIZE}">\n'
            f'<rect width="100%" height="100%" rx="6" fill="{PAPER}"/>\n'
        )
        image.write("\n".join(drawn(lines)))
        image.write("\n</svg>\n")


main()
