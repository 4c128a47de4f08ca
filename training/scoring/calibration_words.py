"""What a calibration came to, in words, and which rows that is of."""

from collections.abc import Mapping

from adapters.adapter import Calibration


def calibration_line(calibration: Calibration, figures: Mapping[str, float], *, role: str = "report") -> str:
    """What a calibration came to, in words; `figures` as a provenance has them, those of `role` and none but those."""
    ece, brier = (f"{figures[f'{role}_raw_{name}']:.3f} → {figures[f'{role}_{name}']:.3f}" for name in ("ece", "brier"))
    line = f"ECE {ece} at temperature {calibration.temperature:.3g}, Brier score {brier}"
    if calibration.abstain_threshold is None:
        return line
    return (
        f"{line}; abstains below {calibration.abstain_threshold:.3f}: {100 * figures[f'{role}_coverage']:.1f} % of the "
        f"rows answered, {100 * figures[f'{role}_answered_accuracy']:.1f} % of those rightly"
    )


def calibration_told(calibration: Calibration, figures: Mapping[str, float], data: Mapping[str, object]) -> str:
    """The same, and which rows it is of.

    Args:
        data: a provenance's, with what `Appraisal.described` or `validation.with_calibration` put there
    """
    told = f"{calibration_line(calibration, figures)} ({_rows(calibration, data)})."
    if calibration.temperature == 1:
        told += " The temperature was left at 1: probabilities are the model's own."
    return told


def _rows(calibration: Calibration, data: Mapping[str, object]) -> str:
    file = data.get("calibration_file")
    rows = "the report rows themselves" if file is None else f"the {data['calibration_rows']} rows of {file}"
    if data.get("calibration_measured") == "halves":
        threshold = "" if calibration.abstain_threshold is None else "; the threshold on all of them"
        return f"fitted on {rows}, measured on two halves of them, each under the other's temperature{threshold}"
    if file is not None:
        return f"the temperature as it was before, the threshold fitted on {rows}, both measured on them"
    if data.get("split") == "paper":
        return f"fitted and measured on {rows}"
    return "fitted on the selection rows, measured on the report rows"
