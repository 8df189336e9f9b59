import subprocess
import sys

from transformer.monitoring.figure import (
    COLOURS,
    families,
    new_figure,
    plot_line,
    put_heading,
    to_png,
    to_svg,
    use_log_scale,
)


def draw():
    figure = new_figure(3, 2)
    plot_line(figure.subplots(), [1, 2], [1.0, 10.0], COLOURS[0], "line")
    put_heading(figure, "a $heading_ with \\frac", 12)
    return figure


def test_the_same_drawing_gives_the_same_bytes():
    assert to_png(draw()) == to_png(draw())
    assert to_svg(draw()) == to_svg(draw())


def test_png_has_the_size_asked_for():
    header = to_png(draw())[:24]
    assert header.startswith(b"\x89PNG")
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (450, 300)


def test_svg_can_stand_in_a_page():
    text = to_svg(draw())
    assert text.startswith("<svg")
    assert text.rstrip().endswith("</svg>")


def test_latin_text_needs_no_second_font():
    assert families("Grüße ▁łódź") == ("DejaVu Sans",)
    assert not any(name.startswith("Last Resort") for name in families("漢"))


def test_log_scale_has_plain_numbers():
    axes = draw().axes[0]
    use_log_scale(axes)
    axes.set_ylim(1, 2_000)
    axes.figure.draw_without_rendering()
    assert {"1", "10", "100", "1,000"} <= {label.get_text() for label in axes.get_yticklabels()}


def test_no_state_of_pyplot_is_touched():
    draw_one = "import sys; from transformer.monitoring.figure import new_figure, to_png; to_png(new_figure(1, 1))"
    code = f"{draw_one}; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
