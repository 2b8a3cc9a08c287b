"""The papers of the house agree with the house: what a page names exists, and what exists is named where it must be."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import relay
from relay.cli.app import app

TOP = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob("config/*.md"), TOP / "spool" / "README.md"]
    if path.is_file()
)
LOCKS = sorted(TOP.glob("requirements*.lock"))
NODE_LOCKS = sorted(TOP.glob("tests/*/**/package-lock.json"))
MODULES = sorted(TOP.glob("relay/**/*.py"))
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())

LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
RFC = re.compile(r"\bRFC (\d{3,5})\b")


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table whose first column has this heading; cells without their marks."""
    lines = iter((TOP / page).read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        leads_to = (page.parent / file).resolve() if file else page
        assert leads_to.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(leads_to), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_command_that_a_page_shows_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), flags=re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), flags=re.MULTILINE))
    assert shown <= targets


def relay_commands(page: Path) -> list[list[str]]:
    """What a page tells to type after `relay`, or `.venv/bin/relay --config FILE`, in blocks and between backticks."""
    program = r"(?:docker exec NAME |\.venv/bin/)?relay (?:--config \S+ )?"
    text = page.read_text()
    shown = re.findall(rf"^{program}([a-z].*?)(?:#.*)?$", "\n".join(blocks(text)), re.MULTILINE)
    shown += re.findall(rf"`{program}([a-z][^`]*)`", text)
    shown += re.findall(rf'(?:"|; ){program}([a-z][^";(]*)', text) if page.suffix == ".yml" else []
    return [shlex.split(line.split("&&")[0]) for line in shown]


def blocks(text: str) -> list[str]:
    """What stands between fences without a language: what is typed."""
    return [block for fence, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if not fence]


@pytest.mark.parametrize("page", [*PAGES, TOP / "config" / "alerts.yml"], ids=name_of)
def test_every_relay_command_that_a_page_shows_exists_with_its_flags(page: Path) -> None:
    for words in relay_commands(page):
        command: Any = get_command(app)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"relay {' '.join(words)}"
            command = command.commands[words.pop(0)]
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert [word for word in words if word.startswith("--") and word not in flags] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:relay|tests|docs|config|\.ci)/[\w./-]*\w)`", page.read_text())
    made_by_use = {"config/relay.toml", "config/tls/ca.pem"}
    missing = [name for name in named if name not in made_by_use and not (TOP / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_no_page_uses_a_word_that_the_glossary_replaces(page: Path) -> None:
    text = page.read_text().lower()
    if page.name == "glossary.md":
        text = "\n".join(line.rsplit("|", 2)[0] for line in text.splitlines())
    refused = ["blacklist", "whitelist", "api key", "tenant", "soft bounce", "hard fail", "ip pool"]
    assert [word for word in refused if word in text] == []


def test_the_glossary_has_every_word_once() -> None:
    words = [row[0] for row in table("docs/glossary.md", "word")]
    assert len(words) == len(set(words))
    expected = (
        "message, recipient, attempt, deferral, bounce, verdict, suppression, credential, sender domain, stream, site, "
        "source, route, governor, shard, journal"
    )
    assert [word for word in expected.split(", ") if f"**{word}**" not in words] == []


def test_every_dependency_has_its_reason() -> None:
    names = {re.split(r"[<>=\[]", requirement)[0] for requirement in PROJECT["project"]["dependencies"]}
    reasons = " ".join(row[0] for row in table("docs/architecture.md", "library"))
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", reasons)] == []


def test_every_layer_of_the_contract_is_on_the_architecture_page() -> None:
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    modules = {name for layer in contract["layers"] for name in layer.split(" | ") if not name.startswith(("(", "_"))}
    described = {name for row in table("docs/architecture.md", "layer") for name in re.findall(r"`(\w+)`", row[1])}
    assert modules == described


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == relay.__version__
    released = re.findall(r"^## \[(\d[^\]]*)\]", (TOP / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert released in ([], [relay.__version__]) or released[0] == relay.__version__


@pytest.mark.parametrize("lock", LOCKS, ids=name_of)
def test_a_lock_pins_every_package_by_hash_and_names_no_server(lock: Path) -> None:
    text = lock.read_text()
    requirements = re.split(r"\n(?=[a-z0-9])", text.strip(), flags=re.IGNORECASE)
    assert requirements
    pinned = re.compile(r"[\w.-]+==\S+ (?:; .+ )?\\\n    --hash=sha256:[0-9a-f]{64}")
    assert [one.splitlines()[0] for one in requirements if not pinned.match(one)] == []
    assert "://" not in text
    assert not re.search(r"^-", text, flags=re.MULTILINE)


def test_the_locks_hold_every_dependency_and_agree_with_each_other() -> None:
    pinned = {lock.name: dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE)) for lock in LOCKS}
    asked = {re.split(r"[<>=\[]", one)[0] for one in PROJECT["project"]["dependencies"]}
    assert asked <= set(pinned["requirements.lock"])
    developed = {re.split(r"[<>=\[]", one)[0] for one in PROJECT["project"]["optional-dependencies"]["dev"]}
    assert asked | developed <= set(pinned["requirements-dev.lock"])
    for name, version in pinned["requirements.lock"].items():
        assert pinned["requirements-dev.lock"][name] == version


@pytest.mark.parametrize("lock", NODE_LOCKS, ids=name_of)
def test_node_packages_are_pinned_and_name_no_server(lock: Path) -> None:
    text = lock.read_text()
    assert '"integrity": "sha512-' in text
    assert '"resolved"' not in text


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_has_one_subject(module: Path) -> None:
    lines = module.read_text().splitlines()
    assert len(lines) <= 400, "split it by subject"
    assert module.name not in {"utils.py", "helpers.py", "common.py", "constants.py", "types.py", "base.py"}


def test_every_rfc_that_the_code_obeys_is_listed_with_its_tests() -> None:
    cited = {number for module in MODULES for number in RFC.findall(module.read_text())}
    listed = set(RFC.findall((TOP / "docs" / "rfc.md").read_text()))
    assert sorted(cited - listed, key=int) == []


def test_every_clause_listed_names_a_module_and_a_test_that_exist() -> None:
    rows = table("docs/rfc.md", "clause")
    assert rows
    for clause, _, modules, tests in rows:
        for name in [*re.findall(r"`([^`]+)`", modules), *re.findall(r"`([^`]+)`", tests)]:
            assert (TOP / name).exists(), f"{clause}: {name} does not exist"
        assert modules, clause
        assert tests, clause
