"""The one table of the data sets that recattn fetches by name: where they lie, what they weigh, on what terms."""

from dataclasses import dataclass

TERMS = (
    "GroupLens data: free for research, no commercial use without permission, no redistribution, no claim that "
    "GroupLens endorses your work, and publications cite it"
)
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872"
)
_GROUPLENS = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True)
class Member:
    """A file inside of an archive, and the sums that were published for it (None where none was)."""

    name: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Archive:
    """A zip file and the members that recattn reads from it.

    file: its file name. folder: where the members lie inside of it. members: the ratings first.
    """

    file: str
    folder: str
    members: tuple[Member, ...]
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Source:
    """A data set that can be named.

    archive: what lies at ``url``. wheel: a second copy on the Python package index, None where there is none;
    ``requirement`` is what pip calls it. rows, users, items: the counts that its authors state.

    >>> SOURCES["ml-100k"].rows, SOURCES["ml-100k"].archive.members[0].name
    (100000, 'u.data')
    """

    name: str
    description: str
    archive: Archive
    rows: int
    users: int
    items: int
    wheel: Archive | None = None
    requirement: str | None = None
    licence: str = TERMS
    citation: str = CITATION

    @property
    def url(self) -> str:
        return f"{_GROUPLENS}/{self.archive.file}"

    @property
    def copies(self) -> tuple[Archive, ...]:
        """The forms in which the data may lie on disk, the authors' own first."""
        return (self.archive,) if self.wheel is None else (self.archive, self.wheel)


_RECBOLE_100K = Archive(
    file="recbole-1.2.1-py3-none-any.whl",
    size=2130151,
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    folder="recbole/dataset_example/ml-100k",
    members=(
        Member("ml-100k.inter", 1979230, sha256="4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"),
        Member("ml-100k.item", 66632, sha256="51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"),
        Member("ml-100k.user", 22697, sha256="4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972"),
    ),
)

_ALL = (
    Source(
        name="ml-100k",
        description="MovieLens 100k (1998): whole stars, with age, gender and occupation of each user",
        rows=100_000,
        users=943,
        items=1_682,
        archive=Archive(
            file="ml-100k.zip",
            size=4924029,
            md5="0e33842e24a9c977be4e0107933c0723",
            sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            folder="ml-100k",
            members=(
                Member("u.data", 1979173, sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"),
                Member("u.item", 236344, sha256="553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701"),
                Member("u.user", 22628, sha256="f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c"),
            ),
        ),
        wheel=_RECBOLE_100K,
        requirement="recbole==1.2.1",
    ),
    Source(
        name="ml-1m",
        description="MovieLens 1M (2003): whole stars, with age, gender and occupation of each user",
        rows=1_000_209,
        users=6_040,
        items=3_706,
        archive=Archive(
            file="ml-1m.zip",
            size=5917549,
            md5="c4d9eecfca2ab87c1945afe126590906",
            sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            folder="ml-1m",
            members=(
                Member("ratings.dat", 24594131, md5="a89aa3591bc97d6d4e0c89459ff39362"),
                Member("movies.dat", 171308, sha256="0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9"),
                Member("users.dat", 134368, sha256="1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3"),
            ),
        ),
    ),
    Source(
        name="ml-10m",
        description="MovieLens 10M (2009): half stars",
        rows=10_000_054,
        users=69_878,
        items=10_677,
        archive=Archive(
            file="ml-10m.zip",
            size=65566137,
            md5="ce571fd55effeba0271552578f2648bd",
            sha256="813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862",
            folder="ml-10M100K",
            members=(Member("ratings.dat", md5="3f317698625386f66177629fa5c6b2dc"), Member("movies.dat")),
        ),
    ),
    Source(
        name="ml-20m",
        description="MovieLens 20M (2015): half stars",
        rows=20_000_263,
        users=138_493,
        items=26_744,
        archive=Archive(
            file="ml-20m.zip",
            size=198702078,
            md5="cd245b17a1ae2cc31bb14903e1204af3",
            sha256="96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
            folder="ml-20m",
            members=(Member("ratings.csv"), Member("movies.csv")),
        ),
    ),
    Source(
        name="ml-25m",
        description="MovieLens 25M (2019): half stars",
        rows=25_000_095,
        users=162_541,
        items=59_047,
        archive=Archive(
            file="ml-25m.zip",
            size=261978986,
            md5="6b51fb2759a8657d3bfcbfc42b592ada",
            sha256="8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
            folder="ml-25m",
            members=(Member("ratings.csv"), Member("movies.csv")),
        ),
    ),
    Source(
        name="ml-32m",
        description="MovieLens 32M (2023): half stars",
        rows=32_000_204,
        users=200_948,
        items=84_432,
        archive=Archive(
            file="ml-32m.zip",
            size=238950008,
            md5="d472be332d4daa821edc399621853b57",
            folder="ml-32m",
            members=(
                Member("ratings.csv", md5="cf12b74f9ad4b94a011f079e26d4270a"),
                Member("movies.csv", md5="0df90835c19151f9d819d0822e190797"),
            ),
        ),
    ),
    Source(
        # GroupLens replaces what lies under this name; the sums are those of 2018-09-26, and a later edition
        # needs verify=False.
        name="ml-latest-small",
        description="MovieLens latest, small (edition of 2018-09-26): half stars",
        rows=100_836,
        users=610,
        items=9_724,
        archive=Archive(
            file="ml-latest-small.zip",
            size=978202,
            sha256="696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
            folder="ml-latest-small",
            members=(
                Member(
                    "ratings.csv", 2483723, sha256="aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646"
                ),
                Member("movies.csv", 494431, sha256="5a5f32dd9bb3797b8e728a1b98958789d2b13f294a69fdfbc5727f8a9611aa07"),
            ),
        ),
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
