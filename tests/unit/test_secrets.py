# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of generated secrets: once, for all, kept safe, and never a word about their values."""

import builtins
import multiprocessing
import stat
import sys

import bcrypt
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.aistack.observability.plugins.plugin_utils import secrets

LOGIN = {"observability_web_login": {"username": "admin"}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "group_vars" / "observability-secrets.yml"


def test_generated_once_and_kept(path):
    store = secrets.Store(path)
    assert store.generate(LOGIN) == ["web_password", "web_password_salt"]
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == [path.name]  # no lock, no temporary file
    assert secrets.Store(path).generate(LOGIN) == []
    assert path.read_bytes() == content
    assert len(store.value("web_password", LOGIN)) >= 32


def test_nothing_is_generated_that_nobody_wants(path):
    for variables in ({}, {"observability_web_login": {}}):
        assert secrets.Store(path).generate(variables) == []
        assert secrets.Store(path).web_login(variables) == {}
    assert not path.exists()


def test_a_given_value_wins_and_is_not_written(path):
    given = {"observability_web_login": {"username": "admin", "password": "of-my-own"}}
    store = secrets.Store(path)
    store.generate(LOGIN)
    assert store.value("web_password", given) == "of-my-own"
    path.unlink()
    assert store.generate(given) == ["web_password_salt"]
    assert "of-my-own" not in path.read_text()


def test_a_role_wants_its_secrets_where_it_is_installed(path):
    store = secrets.Store(path)
    assert store.generate({}, ["prometheus"]) == []
    assert store.generate({"grafana_secret_key": "mine"}, ["grafana"]) == ["grafana_admin_password"]
    assert store.generate({}, ["grafana"]) == ["grafana_secret_key"]
    assert store.value("grafana_secret_key", {"grafana_secret_key": "mine"}) == "mine"


def test_both_sides_of_a_log_in_share_one_client_secret(path):
    store, wanting = secrets.Store(path), {"observability_single_sign_on": {"url": "https://id.example.org"}}
    assert store.generate(wanting) == ["grafana_client_secret"]
    assert store.value("grafana_client_secret", wanting) == store.value("grafana_client_secret", {})
    given = {"observability_single_sign_on": {"client_secret": "made by hand"}}
    assert store.value("grafana_client_secret", given) == "made by hand"
    assert "made by hand" not in path.read_text()


def test_the_hash_is_right_and_stays(path):
    store = secrets.Store(path)
    store.generate(LOGIN)
    login = store.web_login(LOGIN)
    assert login["username"] == "admin"
    assert bcrypt.checkpw(login["password"].encode(), login["password_hash"].encode())
    assert secrets.Store(path).web_login(LOGIN) == login
    other = store.web_login({"observability_web_login": {"username": "admin", "password": "other"}})
    assert other["password_hash"] != login["password_hash"]


def test_check_mode_writes_nothing(path):
    store = secrets.Store(path)
    assert store.missing(LOGIN) == ["web_password", "web_password_salt"]
    assert set(store.web_login(LOGIN, check_mode=True).values()) == {"admin", secrets.PLACEHOLDER}
    assert not path.parent.exists()


def test_a_missing_secret_says_what_to_do(path):
    with pytest.raises(secrets.SecretError, match="--skip-tags always"):
        secrets.Store(path).value("web_password", LOGIN)
    with pytest.raises(secrets.SecretError, match="no secret 'web_pasword'; did you mean web_password"):
        secrets.Store(path).value("web_pasword", LOGIN)


def vault(*passwords):
    return VaultLib([(name, VaultSecret(password)) for name, password in passwords])


def test_an_encrypted_store_stays_encrypted(path, monkeypatch):
    lib = vault(("default", b"wrong"), ("site", b"right"))
    path.parent.mkdir()
    path.write_bytes(lib.encrypt(b"web_password: kept\n", VaultSecret(b"right"), vault_id="site"))
    store = secrets.Store(path, lib)
    assert store.value("web_password", LOGIN) == "kept"
    assert store.generate(LOGIN) == ["web_password_salt"]
    content = path.read_bytes()
    assert content.startswith(b"$ANSIBLE_VAULT;1.2;AES256;site\n")
    document = yaml.safe_load(vault(("any", b"right")).decrypt(content))
    assert document["web_password"] == "kept" and document["web_password_salt"].startswith("$2b$")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("lib", "message"), [
    (None, "give its vault password"), (vault(), "give its vault password"),
    (vault(("default", b"wrong")), "none of the vault passwords"),
])
def test_a_closed_store_is_said_so(path, lib, message):
    path.parent.mkdir()
    path.write_bytes(vault().encrypt(b"web_password: kept\n", VaultSecret(b"right")))
    content = path.read_bytes()
    for ask in (lambda store: store.value("web_password", LOGIN), lambda store: store.generate(LOGIN)):
        with pytest.raises(secrets.SecretError, match=message):
            ask(secrets.Store(path, lib))
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [
    "- hunter2\n", "web_password: {a: hunter2}\n", "hunter2: [\n", "web_password: 12345\n"])
def test_a_broken_store_is_not_overwritten_and_not_quoted(path, content):
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(secrets.SecretError, match="must be a YAML mapping") as caught:
        secrets.Store(path).generate(LOGIN)
    assert "hunter2" not in str(caught.value) and "12345" not in str(caught.value)
    assert path.read_text() == content


def test_a_run_that_fails_while_writing_leaves_the_old_file(path, monkeypatch):
    path.parent.mkdir()
    path.write_text("web_password: kept\n")

    def fail(*arguments):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(secrets.os, "replace", fail)
    with pytest.raises(secrets.SecretError, match="No space left.*observability_secrets_file"):
        secrets.Store(path).generate(LOGIN)
    assert path.read_text() == "web_password: kept\n"
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def _generate(path, barrier, queue):
    barrier.wait()
    queue.put(secrets.Store(path).generate(LOGIN))


def test_hosts_that_ask_together_get_one_secret(path):
    """Ansible's workers are processes, one a host."""
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(6), context.Queue()
    workers = [context.Process(target=_generate, args=(path, barrier, queue)) for _number in range(6)]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=30) for _worker in workers]
    for worker in workers:
        worker.join()
    assert sorted(answers, key=len)[:-1] == [[]] * 5
    assert len(yaml.safe_load(path.read_text())) == 2


def test_bcrypt_missing(path, monkeypatch):
    store = secrets.Store(path)
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "bcrypt":
            raise ImportError(name)
        return real(name, *arguments, **keywords)
    monkeypatch.delitem(sys.modules, "bcrypt", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(secrets.SecretError, match="pip install bcrypt"):
        store.generate(LOGIN)
    assert not path.exists()


def test_a_password_that_bcrypt_would_cut_is_refused():
    with pytest.raises(secrets.SecretError, match="72 bytes"):
        secrets.bcrypt_hash("x" * 73, bcrypt.gensalt(4).decode())


def test_where_the_store_is():
    assert secrets.store_path({"inventory_dir": "/inv"}) == "/inv/group_vars/observability-secrets.yml"
    assert secrets.store_path({"inventory_dir": "/inv", "observability_secrets_file": "/x.yml"}) == "/x.yml"
    assert secrets.store_path({"inventory_dir": "/inv", "observability_secrets_file": ""}).startswith("/inv/group_vars")
    with pytest.raises(secrets.SecretError, match="observability_secrets_file"):
        secrets.store_path({"inventory_dir": None})
