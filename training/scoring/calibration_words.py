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
        data: a provenance's, with what `Appraisal.described` says
    """
    if data.get("calibration_measured") == "halves":
        rows = (
            "fitted on the report rows themselves, measured on two halves of them, each under the other's temperature"
        )
    elif data.get("split") == "paper":
        rows = "fitted and measured on the report rows themselves"
    else:
        rows = "fitted on the selection rows, measured on the report rows"
    told = f"{calibration_line(calibration, figures)} ({rows})."
    if calibration.temperature == 1:
        told += " The temperature was left at 1: probabilities are the model's own."
    return told
