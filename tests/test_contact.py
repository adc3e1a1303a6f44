"""Contact: until when a process trusts what it knows. Time is moved by hand."""

import pytest

from app.contact import BEAT, LONGEST_SILENCE, STANDSTILL, Contact


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Life:
    """A process that beats every second while time passes, and may hear the store at each beat."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.contact = Contact(self.clock)

    def live(self, seconds: float, *, hearing: bool = False) -> None:
        for _ in range(int(seconds / BEAT)):
            self.clock.now += BEAT
            self.contact.beat()
            if hearing:
                assert not self.contact.heard(self.clock.now)

    def stand_still(self, seconds: float) -> None:
        """Time passes, and nothing is done."""
        self.clock.now += seconds


@pytest.fixture
def life() -> Life:
    return Life()


def test_a_process_that_hears_its_store_is_trusted_for_ever(life: Life) -> None:
    life.live(1000, hearing=True)
    assert life.contact.trusted


def test_after_thirty_seconds_of_silence_nothing_is_trusted(life: Life) -> None:
    life.live(LONGEST_SILENCE)
    assert life.contact.trusted
    life.live(1)
    assert not life.contact.trusted


def test_an_old_answer_does_not_make_the_silence_shorter(life: Life) -> None:
    asked = life.clock.now
    life.live(20)
    life.contact.heard(asked)
    life.live(11)
    assert not life.contact.trusted


def test_after_too_long_a_silence_all_is_read_anew_before_it_is_trusted(life: Life) -> None:
    life.live(LONGEST_SILENCE + 5)
    asked = life.clock.now
    assert life.contact.heard(asked)
    assert not life.contact.trusted
    life.contact.renewed(asked)
    assert life.contact.trusted


def test_a_silence_that_ends_between_two_beats_is_noticed_too(life: Life) -> None:
    life.live(LONGEST_SILENCE)
    asked = life.clock.now
    life.clock.now += 0.5
    assert not life.contact.heard(asked)
    assert not life.contact.trusted
    assert life.contact.heard(life.clock.now)


def test_a_silence_that_goes_on_does_not_void_the_question_that_ends_it(life: Life) -> None:
    """The store may answer late: what was asked while it was silent is good, however many beats passed since."""
    life.live(LONGEST_SILENCE + 2)
    asked = life.clock.now
    life.live(4)
    assert life.contact.heard(asked)


def test_a_process_that_stood_still_trusts_nothing_from_the_first_moment(life: Life) -> None:
    life.stand_still(BEAT + STANDSTILL)
    assert life.contact.trusted
    life.stand_still(0.1)
    assert not life.contact.trusted
    life.contact.beat()
    assert not life.contact.trusted


def test_what_was_asked_before_a_standstill_does_not_end_it(life: Life) -> None:
    asked = life.clock.now
    life.stand_still(20)
    assert not life.contact.heard(asked)
    life.contact.beat()
    assert not life.contact.heard(asked)
    life.contact.renewed(asked)
    assert not life.contact.trusted


def test_after_a_standstill_all_is_read_anew_before_it_is_trusted(life: Life) -> None:
    life.stand_still(20)
    life.contact.beat()
    asked = life.clock.now
    life.live(1)
    assert life.contact.heard(asked)
    assert not life.contact.trusted
    life.contact.renewed(asked)
    assert life.contact.trusted
    assert not life.contact.heard(life.clock.now)


def test_a_second_standstill_voids_what_was_read_for_the_first(life: Life) -> None:
    life.stand_still(20)
    life.contact.beat()
    asked = life.clock.now
    life.stand_still(20)
    life.contact.beat()
    life.contact.renewed(asked)
    assert not life.contact.trusted


def test_a_loss_is_told_once_and_lasts_until_the_store_is_heard(life: Life) -> None:
    losses: list[bool] = []
    life.contact.after_loss(lambda: losses.append(life.contact.lost))
    life.contact.lose()
    life.contact.lose()
    assert losses == [True]
    life.contact.heard(life.clock.now)
    assert not life.contact.lost
    life.contact.lose()
    assert losses == [True, True]
