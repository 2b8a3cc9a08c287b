"""cli.applications and cli.quoting: what is pasted is valid where it is pasted, whatever the address."""

import ast
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.applications import Settings, ready_settings
from relay.cli.quoting import SYNTAXES

ODD = "o'br#i$en`{a}\"\\;&|!%@shop.example"
CA = "/etc/re'lay/it\"s $HOME/ca.pem"


def settings(application: str, security: str) -> str:
    """What is pasted, for an address and a path that every syntax trips over."""
    values = Settings("mail.host.example", 587, security, "shop-login", "theSecret", ODD, CA)
    return ready_settings(application, values).partition("\n")[2]


def run(*command: str, given: str) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_python(text: str) -> list[str]:
    constants = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    return [value for value in constants if isinstance(value, str)]


def is_json(text: str) -> list[str]:
    """Without the remark in parentheses below it."""
    found: list[str] = []
    json.loads("{" + re.sub(r"(?m)^\(.*\)$", "", text) + "}", object_hook=lambda table: found.extend(table.values()))
    return found


STRINGS = """
foreach (token_get_all(stream_get_contents(STDIN)) as $token)
    if (is_array($token) && $token[0] == T_CONSTANT_ENCAPSED_STRING)
        echo eval("return $token[1];"), "\\n";
"""


def is_php(text: str) -> list[str]:
    opened = text if text.startswith("<?php") else "<?php\n" + text
    run("php", "-l", given=opened)
    return run("php", "-r", STRINGS, given=opened).splitlines()


def is_joomla(text: str) -> list[str]:
    return is_php("class JConfig {\n" + text + "\n}")


def is_nextcloud(text: str) -> list[str]:
    local, domain = ODD.rsplit("@", 1)
    found = is_php("$CONFIG = [\n" + text + "\n];")
    return [*found, ODD] if {local, domain} <= set(found) else found


def is_javascript(text: str) -> list[str]:
    run("node", "--check", "--input-type=module", "-", given=text)
    found = re.findall(r'"(?:[^"\\\n]|\\.)*"', text)
    return [json.loads(each) for each in found]


def is_strapi(text: str) -> list[str]:
    return is_javascript("const plugins = {\n" + text + "\n};")


def is_shell(text: str) -> list[str]:
    run("bash", "-n", given=text)
    return shlex.split(text.replace("\\\n", " "))


CHECKS: list[tuple[str, str, Callable[[str], list[str]]]] = [
    ("curl", "bash", is_shell),
    ("django", "python3", is_python),
    ("drupal", "php", is_php),
    ("flask", "python3", is_python),
    ("ghost", "python3", is_json),
    ("joomla", "php", is_joomla),
    ("keycloak", "python3", is_json),
    ("nextcloud", "php", is_nextcloud),
    ("nodemailer", "node", is_javascript),
    ("phpmailer", "php", is_php),
    ("python", "python3", is_python),
    ("strapi", "node", is_strapi),
    ("swaks", "bash", is_shell),
    ("wordpress", "php", is_php),
]


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(("application", "program", "check"), CHECKS, ids=[each[0] for each in CHECKS])
def test_its_language_reads_the_address_as_it_is(
    application: str, program: str, check: Callable[[str], list[str]], security: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} here")
    assert ODD in check(settings(application, security))


READERS: dict[str, Callable[[str], str]] = {
    "json": json.loads,
    "php": lambda text: re.sub(r"\\([\\'])", r"\1", text[1:-1]),
    "ruby": lambda text: re.sub(r"\\([\\'])", r"\1", text[1:-1]),
    "shell": lambda text: shlex.split(text)[0],
    "dotenv": lambda text: re.sub(r'\\([\\"$])', r"\1", text[1:-1]) if text[:1] == '"' else text,
    "ini": lambda text: text.removeprefix('"""').removesuffix('"""'),
    "properties": lambda text: text.encode("ascii").decode("unicode_escape"),
    "exim": lambda text: re.sub(r"\\([\\$])", r"\1", text),
    "postfix": lambda text: text.replace("$$", "$"),
    "": str,
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(value=st.text(st.characters(min_codepoint=32, max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"])))
def test_what_is_quoted_is_read_back(syntax: str, value: str) -> None:
    assert READERS[syntax](SYNTAXES[syntax](value)) == value


@pytest.mark.parametrize("syntax", ["dotenv", "ini", "shell"])
def test_what_needs_no_quotes_gets_none(syntax: str) -> None:
    assert SYNTAXES[syntax]("noreply@shop.example") == "noreply@shop.example"
