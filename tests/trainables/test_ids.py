"""What is worked out once for each object."""

from trainables.ids import HELD, once_for_each_object


def test_each_object_is_worked_out_once_and_equal_ones_apart() -> None:
    asked: list[list[int]] = []

    def make(given: list[int]) -> int:
        asked.append(given)
        return sum(given)

    remembered = once_for_each_object(make)
    one, other = [1, 2], [1, 2]
    assert [remembered(given) for given in (one, one, other)] == [3, 3, 3]
    assert len(asked) == 2


def test_objects_that_went_are_not_taken_for_new_ones_at_their_address() -> None:
    remembered = once_for_each_object(sum)
    for number in range(2 * HELD + 10):  # each goes at once, and its address would be used again
        assert remembered((number, 1)) == number + 1
