"""Pictures that are drawn: the same on every machine."""

from math import cos, exp, pi, sin

from PIL import Image, ImageDraw

LARGE = 4  # drawn so much larger, so that edges are smooth


def point(turn):
    """Of an apple's outline, from the middle: wider above, with a dent at the top and a small one below."""
    x = 0.33 * sin(turn) * (1 + 0.1 * cos(turn))
    dent = 0.07 if cos(turn) > 0 else -0.03
    return x, -0.33 * cos(turn) + dent * exp(-((x / 0.1) ** 2))


def apple(size=240):
    """A red apple on light ground."""
    side = size * LARGE
    image = Image.new("RGB", (side * 4 // 3, side), (238, 241, 246))
    draw = ImageDraw.Draw(image)

    def oval(x, y, width, height, colour):
        centre = side * 2 / 3 + x * side, side * 0.56 + y * side
        reach = width * side / 2, height * side / 2
        draw.ellipse(
            [
                centre[0] - reach[0],
                centre[1] - reach[1],
                centre[0] + reach[0],
                centre[1] + reach[1],
            ],
            fill=colour,
        )

    oval(0, 0.36, 0.6, 0.06, (219, 224, 233))  # shadow
    outline = [point(step * 2 * pi / 360) for step in range(360)]
    draw.polygon([(side * (2 / 3 + x), side * (0.56 + y)) for x, y in outline], fill=(205, 45, 50))
    oval(-0.2, -0.14, 0.1, 0.16, (236, 118, 112))  # light
    oval(0, -0.28, 0.15, 0.06, (160, 30, 40))
    stem = [(side * 2 / 3, side * 0.26), (side * 2 / 3 + side * 0.05, side * 0.1)]
    draw.line(stem, fill=(96, 66, 40), width=side // 40)
    draw.chord(
        [stem[1][0], side * 0.08, stem[1][0] + side * 0.22, side * 0.24],
        200,
        350,
        fill=(92, 150, 70),
    )
    return image.resize((size * 4 // 3, size), Image.Resampling.LANCZOS)
