"""An interruption ends a block wherever it is, and nothing outside one."""

import signal
import time
from collections.abc import Iterator

import pytest

from trainer.interruption import Interrupted, Interruption


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = signal.getsignal(signal.SIGUSR1)
    yield Interruption(again_s=0.0)
    signal.signal(signal.SIGUSR1, before)


def interrupt(interruption: Interruption) -> None:
    interruption.request()
    time.sleep(60)  # the handler runs in the sleep


def test_it_ends_a_block_and_nothing_outside(interruption: Interruption) -> None:
    interruption.request()
    with pytest.raises(Interrupted), interruption.possible():
        interrupt(interruption)
    interruption.request()
    with interruption.possible():
        pass


def test_an_error_that_the_interrupted_code_makes_of_it_counts_as_one(interruption: Interruption) -> None:
    class Attribute:
        def __set_name__(self, owner: type, name: str) -> None:
            interrupt(interruption)

    def import_module() -> None:
        try:
            type("Made", (), {"attribute": Attribute()})  # before Python 3.12 this raises a RuntimeError from it
        except Interrupted as exc:
            raise ImportError("cannot import name 'Made'") from exc

    with pytest.raises(Interrupted) as raised, interruption.possible():
        import_module()
    assert isinstance(raised.value.__cause__, RuntimeError | ImportError)


def test_an_error_without_an_interruption_stays_as_it_is(interruption: Interruption) -> None:
    with pytest.raises(Interrupted), interruption.possible():
        interrupt(interruption)
    with pytest.raises(ValueError, match="of the next block"), interruption.possible():
        raise ValueError("of the next block")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_it_can_be_requested_again_where_python_dropped_it(interruption: Interruption) -> None:
    class Finalized:
        def __del__(self) -> None:
            interrupt(interruption)

    def finalize_first() -> None:
        Finalized()
        interrupt(interruption)

    with pytest.raises(Interrupted), interruption.possible():
        finalize_first()


@pytest.mark.usefixtures("interruption")
def test_the_cleaning_up_is_not_interrupted_at_once() -> None:
    patient = Interruption(again_s=60.0)
    cleaned = []

    def clean_up_at_the_end() -> None:
        try:
            interrupt(patient)
        finally:
            patient.request()
            time.sleep(0.01)
            cleaned.append(True)

    with pytest.raises(Interrupted), patient.possible():
        clean_up_at_the_end()
    assert cleaned
