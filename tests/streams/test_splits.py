"""Splits cover every class exactly once; class orders and seeds are the same every time and differ by purpose."""

import hashlib
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clbench.errors import UsageError
from clbench.streams.splits import class_order, describe_split, domain_order, parse_split, split_by_two, split_text
from clbench.system.seeds import LARGEST, derive, run_seeds


@pytest.mark.parametrize(
    ("text", "classes", "sizes"),
    [
        ("5", 10, (2, 2, 2, 2, 2)),
        ("1", 10, (10,)),
        ("10", 10, (1,) * 10),
        ("50+10x5", 100, (50, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5)),
        ("4+2×3", 10, (4, 3, 3)),
        ("4,3,3", 10, (4, 3, 3)),
        (" 4, 3,3 ", 10, (4, 3, 3)),
        ("10,", 10, (10,)),
        ("10x1", 10, (1,) * 10),
        ("8+2x1", 10, (8, 1, 1)),
        ("2×4 + 2", 10, (4, 4, 2)),
        ("4+3+3", 10, (4, 3, 3)),
        ("3+425x2", 853, (3, *(2,) * 425)),
    ],
)
def test_a_split_says_how_many_classes_each_experience_brings(text: str, classes: int, sizes: tuple[int, ...]) -> None:
    assert parse_split(text, classes) == sizes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "five",
        "-5",
        "2.5",
        "5x3",
        "5x",
        "x2",
        "0x10",
        "5x2+",
        "50+10x5",
        "0",
        "3",
        "11",
        "4,3",
        "4,3,4",
        "4,0,6",
        "0,10",
        ",10",
        "1e1",
    ],
)
def test_a_split_that_does_not_cover_the_classes_exactly_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_split(text, 10)


@pytest.mark.parametrize("text", ["1+99999999999999999999x1", "9" * 5000, "9" * 5000 + ",1"])
def test_a_split_too_large_for_any_machine_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_split(text, 10)


def test_a_split_that_covers_too_little_says_both_numbers() -> None:
    with pytest.raises(UsageError, match="covers 7 classes, but the dataset has 10"):
        parse_split("4,3", 10)


@pytest.mark.parametrize(("count", "sizes"), [("3", "4+2x3"), ("4", "2x3+2x2"), ("0", "1x10"), ("12", "10x1")])
def test_where_classes_do_not_divide_the_error_proposes_the_nearest_list(count: str, sizes: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_split(count, 10)
    assert raised.value.hint and raised.value.hint.endswith(f"--split {sizes}")


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12))
def test_any_list_of_sizes_is_a_split_of_as_many_classes_and_of_no_other_number(sizes: list[int]) -> None:
    text = ",".join(map(str, sizes))
    assert parse_split(text, sum(sizes)) == tuple(sizes)
    with pytest.raises(UsageError):
        parse_split(text, sum(sizes) + 1)


@given(st.text("0123456789+x×, ", max_size=8), st.integers(1, 40))
@example("5", 10)
def test_what_is_accepted_as_a_split_covers_every_class_and_leaves_no_experience_empty(text: str, classes: int) -> None:
    try:
        sizes = parse_split(text, classes)
    except UsageError:
        return
    assert sum(sizes) == classes and min(sizes) >= 1


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((2,) * 5, "5×2"),
        ((50, *(5,) * 10), "50+10×5"),
        ((4, 3, 3), "4+2×3"),
        ((4, 3, 2), "4+3+2"),
        ((6, 4), "6+4"),
        ((10,), "1×10"),
    ],
)
def test_a_split_is_described_as_people_write_it(sizes: tuple[int, ...], words: str) -> None:
    assert describe_split(sizes) == words


@given(st.lists(st.integers(1, 3), min_size=1, max_size=12))
def test_a_split_as_it_is_written_is_read_back(sizes: list[int]) -> None:
    assert parse_split(split_text(sizes), sum(sizes)) == tuple(sizes)
    assert parse_split(describe_split(sizes), sum(sizes)) == tuple(sizes)


@pytest.mark.parametrize(("classes", "text"), [(2, "2"), (3, "3"), (4, "2"), (5, "3+2"), (100, "50"), (853, "3+425x2")])
def test_classes_are_divided_by_two_with_the_odd_one_first(classes: int, text: str) -> None:
    assert split_by_two(classes) == text


def test_natural_order_counts_up() -> None:
    assert class_order("natural", "0123", seed=7) == (0, 1, 2, 3)


@pytest.mark.parametrize("text", ["3,0,2,1", "3, 0, 2, 1"])
def test_a_listed_class_order_is_taken_as_it_stands_whatever_the_seed(text: str) -> None:
    assert class_order(text, "0123", seed=1) == class_order(text, "0123", seed=2) == (3, 0, 2, 1)


@pytest.mark.parametrize(
    "text", ["0,1,2", "0,1,2,2", "0,1,2,4", "1,2,3,4", "0,1,2,3,4", "a", "", "3", "0;1;2;3", "-1,0,1,2"]
)
def test_a_class_order_that_does_not_name_each_class_once_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        class_order(text, "0123", seed=0)


def test_a_class_order_that_is_wrong_says_what_is_missing_and_what_is_named_twice() -> None:
    with pytest.raises(UsageError, match="cat is named twice, ant is missing, dog is missing and 1 more"):
        class_order("cat,cat", ["ant", "cat", "dog", "owl"], seed=0)


@pytest.mark.parametrize("text", ["0 1,2,3", "0,1,2,3" + "0" * 5000])
def test_a_class_order_that_is_no_list_of_numbers_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        class_order(text, "0123", seed=0)


@pytest.mark.parametrize("text", ["dog,ant,cat", " dog , ant,cat", "2,0,1"])
def test_classes_are_ordered_by_name_or_by_id(text: str) -> None:
    assert class_order(text, ["ant", "cat", "dog"], seed=0) == (2, 0, 1)


def test_numbers_that_are_names_are_taken_as_names() -> None:
    """Folders called 1, 2 and 3 are classes 0, 1 and 2."""
    assert class_order("3,1,2", ["1", "2", "3"], seed=0) == (2, 0, 1)
    assert class_order("2,0,1", ["1", "2", "3"], seed=0) == (2, 0, 1)  # not all are names, and all are ids


def test_a_class_order_comes_from_a_file_with_a_name_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "order.txt"
    file.write_text("dog, small\n\nant\n cat \n")  # a comma is part of a name here
    assert class_order(str(file), ["ant", "cat", "dog, small"], seed=0) == (2, 0, 1)


def test_a_class_that_the_dataset_does_not_have_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no class 'dgo'; did you mean 'dog'"):
        class_order("ant,cat,dgo", ["ant", "cat", "dog"], seed=0)


@given(st.integers(1, 100), st.integers(0, LARGEST))
def test_a_drawn_class_order_names_each_class_once_and_is_the_same_again(classes: int, seed: int) -> None:
    order = class_order("seed", [str(each) for each in range(classes)], seed)
    assert sorted(order) == list(range(classes))
    assert order == class_order("seed", [str(each) for each in range(classes)], seed)


def test_drawn_class_orders_differ_from_seed_to_seed() -> None:
    assert len({class_order("seed", "0123456789", seed) for seed in range(20)}) == 20


PICTURES = ("art/cat", "art/dog", "photo/cat", "photo/dog", "sketch/cat", "sketch/dog")


@pytest.mark.parametrize(
    ("choice", "order"),
    [
        ("natural", (0, 1, 2, 3, 4, 5)),
        ("sketch,art,photo", (4, 5, 0, 1, 2, 3)),
        ("2,0,1", (4, 5, 0, 1, 2, 3)),  # domains by number
        ("photo/dog,photo/cat,art/cat,art/dog,sketch/cat,sketch/dog", (3, 2, 0, 1, 4, 5)),
        ("5,4,3,2,1,0", (5, 4, 3, 2, 1, 0)),
    ],
)
def test_an_order_of_domains_has_their_classes_side_by_side(choice: str, order: tuple[int, ...]) -> None:
    assert domain_order(choice, ("art", "photo", "sketch"), PICTURES, seed=0) == order


def test_a_seed_permutes_whole_domains_as_it_would_classes() -> None:
    for seed in range(5):
        domains = class_order("seed", ("art", "photo", "sketch"), seed)
        assert domain_order("seed", ("art", "photo", "sketch"), PICTURES, seed) == tuple(
            2 * domain + at for domain in domains for at in (0, 1)
        )


@pytest.mark.parametrize("choice", ["sketch,art", "sketch,art,painting", "art,art,photo"])
def test_a_list_of_domains_names_each_once(choice: str) -> None:
    with pytest.raises(UsageError, match=r"class order|no class"):
        domain_order(choice, ("art", "photo", "sketch"), PICTURES, seed=0)


def test_a_derived_seed_is_the_first_four_bytes_of_a_hash_of_seed_and_purpose() -> None:
    # Written out, for a stored run can only be repeated as long as this formula stands.
    assert derive(7, "order", 3) == int(hashlib.sha256(b"7/order/3").hexdigest()[:8], 16)


def test_different_purposes_experiences_and_seeds_get_different_seeds() -> None:
    purposes = list(product(range(10), ("class_order", "model", "training", "order", "head"), range(10)))
    assert len({derive(*purpose) for purpose in purposes}) == len(purposes)


@given(st.integers(0, LARGEST), st.text(max_size=20), st.integers(0, 1000))
def test_a_derived_seed_is_a_seed(seed: int, purpose: str, experience: int) -> None:
    assert 0 <= derive(seed, purpose.encode(errors="ignore").decode(), experience) <= LARGEST


def test_a_run_has_its_own_seed_and_a_different_one_for_each_purpose() -> None:
    seeds = run_seeds(5)
    assert seeds["run"] == 5
    assert set(seeds) == {"run", "class_order", "model", "training"}
    assert len(set(seeds.values())) == 4
    assert all(run_seeds(6)[purpose] != seed for purpose, seed in seeds.items())
