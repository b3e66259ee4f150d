from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evorec.config import SplitConfig
from evorec.data.encode import encode
from evorec.data.readers import movielens
from evorec.data.splits import split
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError

MOVIES = 'movieId,title,genres\n1,"Café, The (1995)",Drama|War\n2,Serial (2006–2007),(no genres listed)\n3,Plain,\n'
RATINGS = "userId,movieId,rating,timestamp\n7,1,4.0,20\n7,2,3.5,10\n8,1,5.0,30\n"


def write(folder: Path, encoding: str = "utf-8", **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_bytes(text.encode(encoding))
    return folder


def check_films(tables: Tables) -> None:
    assert tables.items is not None
    assert tables.items["title"].to_list()[0].startswith("Café")
    assert tables.items["year"].to_list() == [1995, 2006, None]
    genres = tables.items["genres"].to_list()
    assert genres[0] == ["Drama", "War"]
    assert not genres[1]
    assert not genres[2]
    assert tables.interactions.select("rated", "liked", "loved").rows() == [(1, 1, 0), (1, 0, 0), (1, 1, 1)]
    assert tables.interactions[Columns.TIME].to_list() == [20, 10, 30]  # file order


def test_the_latest_format_is_read(tmp_path: Path) -> None:
    tables = movielens.read(write(tmp_path, ratings__csv=RATINGS, movies__csv=MOVIES))
    check_films(tables)
    assert tables.users is None


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    tables = movielens.read(write(tmp_path, ratings__csv="\ufeff" + RATINGS.replace("\n", "\r\n"), movies__csv=MOVIES))
    check_films(tables)


def test_the_100k_format_is_read(tmp_path: Path) -> None:
    drama_war = "0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|1|0"
    unknown = "1" + "|0" * 18
    items = (
        f"1|Café, The (1995)|01-Jan-1995||http://x|{drama_war}\n"
        f'2|Serial "x" (2006-2007)|01-Jan-2006||http://x|{unknown}\n'
        f"3|Plain||||{unknown}\n"
    )
    tables = movielens.read(
        write(
            tmp_path,
            "latin-1",
            u__data="7\t1\t4\t20\n7\t2\t3\t10\n8\t1\t5\t30\n",
            u__item=items,
            u__user="7|24|M|technician|85711\n8|53|F|other|94043\n",
        )
    )
    check_films(tables)
    assert tables.users is not None
    assert tables.users.rows() == [(7, 24, "M", "technician"), (8, 53, "F", "other")]


def test_the_1m_format_is_read(tmp_path: Path) -> None:
    tables = movielens.read(
        write(
            tmp_path,
            "latin-1",
            ratings__dat="7::1::4::20\n7::2::3::10\n8::1::5::30\n",
            movies__dat="1::Café: The (1995)::Drama|War\n2::Serial (2006-2007)::unknown\n3::Plain::\n",
            users__dat="7::F::1::10::48067\n8::M::56::16::70072\n",
        )
    )
    check_films(tables)
    assert tables.users is not None
    assert tables.users.rows() == [(7, "F", 1, "10"), (8, "M", 56, "16")]


def test_the_10m_format_is_read(tmp_path: Path) -> None:
    tables = movielens.read(
        write(
            tmp_path,
            ratings__dat="7::1::4::20\n7::2::3.5::10\n8::1::5::30\n",
            movies__dat="1::Café, The (1995)::Drama|War\n2::Serial (2006-2007)::(no genres listed)\n3::Plain::\n",
        )
    )
    check_films(tables)
    assert tables.name == "movielens-10m"
    assert tables.users is None


def test_latin_1_without_users_is_refused_as_no_10m(tmp_path: Path) -> None:
    files = {"ratings__dat": "7::1::4::20\n", "movies__dat": "1::Plain (1990)::Drama\n2::Café::Drama\n"}
    with pytest.raises(DataError, match=r"movies\.dat, line 2 must be .* text, got the byte 0xe9"):
        movielens.read(write(tmp_path, "latin-1", **files))


GENOME = "movieId,tagId,relevance\n2,1,0.25\n1,2,0.5\n1,1,0.75\n2,2,1\n"


def test_the_tag_genome_is_content_where_it_is_asked_for(tmp_path: Path) -> None:
    files = {"ratings__csv": RATINGS, "movies__csv": MOVIES, "genome-scores__csv": GENOME}
    write(tmp_path, **files)
    assert movielens.read(tmp_path).content == ("genres",)
    tables = movielens.read_with_genome(tmp_path)
    check_films(tables)
    assert tables.name == "movielens-latest-genome"
    assert tables.content == ("genres", "genome")
    assert tables.items is not None
    assert tables.items["genome"].to_list() == [[0.75, 0.5], [0.25, 1.0], None]  # in order of the tags


@pytest.mark.parametrize(
    ("genome", "message"),
    [
        (GENOME.replace("0.25", "high"), "genome-scores.csv, line 2, column relevance must be Float64, got 'high'"),
        (GENOME.replace("0.25", "1.25"), r"line 2, column relevance must be in 0 \.\. 1, got 1\.25"),
        (GENOME + "2,2,1\n", "line 6, column tagId must be there once per film, got 2"),
        (GENOME + "3,1,1\n", "line 6, column movieId must have all 2 tags, got 3"),
        (GENOME.replace("relevance", "score"), r"line 1 must name the columns \['relevance'\]"),
    ],
)
def test_a_broken_genome_is_refused_with_line_and_column(tmp_path: Path, genome: str, message: str) -> None:
    files = {"ratings__csv": RATINGS, "movies__csv": MOVIES, "genome-scores__csv": genome}
    with pytest.raises(DataError, match=message):
        movielens.read_with_genome(write(tmp_path, **files))


def test_a_data_set_without_a_genome_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"genome-scores\.csv cannot be read: No such file"):
        movielens.read_with_genome(write(tmp_path, ratings__csv=RATINGS, movies__csv=MOVIES))


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ("userId,movieId,rating\n1,1,4\n", r"ratings.csv, line 1 must name the columns \['timestamp'\]; it has"),
        ("", r"ratings.csv is empty; expected the columns \['userId'"),
        ("userId,movieId,rating,timestamp\n", "ratings.csv has no rows"),
        (RATINGS + "8,x,1.0,40\n", "ratings.csv, line 5, column movieId must be Int64, got 'x'"),
        (RATINGS + "8,3,good,40\n", "ratings.csv, line 5, column rating must be Float64, got 'good'"),
        (RATINGS + "8,3,1.0,40,9\n", "ratings.csv, line 5 must have 4 columns, got 5"),
        (RATINGS + "8,3,,40\n", "ratings.csv, line 5, column rating must not be empty"),
        (RATINGS + "8,3\n", "ratings.csv, line 5 must have 4 columns, got 2"),
    ],
)
def test_a_broken_file_is_refused_with_line_and_column(tmp_path: Path, ratings: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        movielens.read(write(tmp_path, ratings__csv=ratings, movies__csv=MOVIES))


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ("7::1::4\n", "ratings.dat, line 1 must have 4 columns separated by '::', got 3"),
        ("\n7::1::4::20\n \n7::1::9::20\n", "ratings.dat, line 4, column rating must be in 0.5..5.0 stars, got 9.0"),
        ("7::1::4::20\n\n7::::4::20\n", "ratings.dat, line 3, column movieId must not be empty"),
        ("7::1::4::20\n7::1::x::20\n", "ratings.dat, line 2, column rating must be Float64, got 'x'"),
        ("7::1::4::20\n7::::4::20\n", "ratings.dat, line 2, column movieId must not be empty"),
    ],
)
def test_a_broken_file_without_header_is_refused_with_its_own_line(tmp_path: Path, ratings: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        movielens.read(write(tmp_path, ratings__dat=ratings, movies__dat="1::A (1995)::Drama\n"))


def test_blank_lines_and_line_breaks_in_quotes_count_as_lines(tmp_path: Path) -> None:
    movies = 'movieId,title,genres\n\n1,"A\n(1995)",Drama\n,B,War\n'
    with pytest.raises(DataError, match=r"movies\.csv, line 5, column movieId must not be empty"):
        movielens.read(write(tmp_path, ratings__csv=RATINGS, movies__csv=movies))
    again = movies.replace("\n,B", "\n1,B")
    with pytest.raises(DataError, match=r"movies\.csv, line 5, column movieId must be there once, got 1"):
        movielens.read(write(tmp_path, ratings__csv=RATINGS, movies__csv=again))


def test_a_missing_second_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"movies\.csv cannot be read: No such file or directory"):
        movielens.read(write(tmp_path, ratings__csv=RATINGS))


@pytest.mark.data
def test_movielens_latest_small_has_the_published_counts(real_data: Callable[[str], Path]) -> None:
    tables = movielens.read(real_data("movielens-latest-small"))
    assert tables.items is not None
    assert (tables.n_rows, tables.interactions[Columns.USER].n_unique(), tables.items.height) == (100_836, 610, 9742)
    parts = split(tables, SplitConfig(kind="leave_last_out"))
    data = encode(tables, parts, tasks=("liked", "loved"), target="rated", fit="train+validation")
    assert data.held_out.n_rows == 610
    assert data.item_content.shape == (9743, 19)
