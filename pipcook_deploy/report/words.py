"""Numbers as people read them."""

from pipcook_deploy.report.entries import IntervalEntry

FORMATS = {
    "tfjs": "TF.js", "onnx": "ONNX", "tflite": "TFLite", "saved_model": "SavedModel", "keras_h5": "Keras HDF5", "keras": "Keras",
    "openvino": "OpenVINO",
}  # fmt: skip
MINUS = "\N{MINUS SIGN}"
MISSING = "–"


def format_name(name: str) -> str:
    """ "tfjs" -> "TF.js"; a name that is not known stays."""
    return FORMATS.get(name, name)


def metric_name(name: str) -> str:
    """ "top5" -> "top-5 accuracy"; a name that is not known stays."""
    from pipcook_deploy.metrics import METRICS

    return METRICS[name].title if name in METRICS else name


def size(count: int | None) -> str:
    """29040 -> "29.0 kB": three digits, powers of ten as networks count."""
    if count is None:
        return MISSING
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{three_digits(number)} {unit}"
        number /= 1000
    raise AssertionError(number)


def ratio(before: float | None, after: float | None) -> str:
    """How many times smaller or faster: "10.8x"."""
    if not before or not after:
        return MISSING
    return f"{three_digits(before / after)}x"


def three_digits(number: float) -> str:
    """313.2 -> "313", 29.04 -> "29.0", 0.05 -> "0.050"."""
    if abs(number) >= 99.95:
        return f"{number:.0f}"
    return (
        f"{number:.1f}"
        if abs(number) >= 9.995
        else f"{number:.2f}"
        if abs(number) >= 0.1
        else f"{number:.3f}"
    )


def milliseconds(value: float | None) -> str:
    """1.5 -> "1.50 ms"."""
    return MISSING if value is None else f"{three_digits(value)} ms"


def level(value: float | None, unit: str) -> str:
    """A value of the metric: 0.921 -> "92.1 %" where the unit is "%"."""
    if value is None:
        return MISSING
    if unit == "%":
        return f"{value * 100:.1f} %"
    return with_unit(f"{value:.4g}", unit)


def with_unit(number: str, unit: str) -> str:
    """ "32.1" -> "32.1 dB". A unit in brackets is a remark, which is not said with each number."""
    return number if not unit or unit.startswith("(") else f"{number} {unit}"


def change(value: float, unit: str) -> str:
    """A signed difference of the metric: -0.002 -> "−0.2 points" where the unit is "%"."""
    if unit == "%":
        return f"{signed(value * 100)} points"
    return with_unit(signed(value, ".4g"), unit)


def change_interval(interval: IntervalEntry, unit: str) -> str:
    """ "−0.5 to +0.1"."""
    scale, spec = (100.0, "") if unit == "%" else (1.0, ".4g")
    return f"{signed(interval.low * scale, spec)} to {signed(interval.high * scale, spec)}"


def signed(value: float, spec: str = "") -> str:
    """With its sign, a real minus; two decimals below a tenth, so that small is not taken for none."""
    text = format(abs(value), spec or (".1f" if abs(value) >= 0.095 or value == 0 else ".2f"))
    if float(text) == 0:
        return "0" if not spec else text
    return f"{'+' if value > 0 else MINUS}{text}"


def amount(value: float, unit: str) -> str:
    """A difference without its sign: 0.005 -> "0.5 points"."""
    if unit == "%":
        return f"{value * 100:.3g} points"
    return with_unit(f"{value:.4g}", unit)


def percent(share: float | None, digits: int = 1) -> str:
    """0.8 -> "80.0 %"."""
    return MISSING if share is None else f"{share * 100:.{digits}f} %"
