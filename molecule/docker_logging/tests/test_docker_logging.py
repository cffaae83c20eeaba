# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Docker logs as declared, in a daemon.json that stays its user's; what runs there runs on, whatever becomes of
the change; and with Loki's own driver a line has the labels that a shipper would give it."""

import json

import pytest

FILE = "/etc/docker/daemon.json"
USERS = '{\n    "shutdown-timeout": 20,\n    "log-opts": {"max-size": "9m"},\n    "labels": ["place=house"]\n}\n'
RECORDS = "/var/lib/aistack/docker_logging"
DROP_IN = "/etc/systemd/system/docker.service.d/test.conf"
LOKI = {"docker_logging_driver": "loki"}
# As root kills a run with -9 while Docker is being restarted: whoever holds the run's lock.
KILLER = """import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        held = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        continue
    if "/run/aistack/docker_logging.lock" in held:
        os.kill(int(pid), signal.SIGKILL)
"""


@pytest.fixture
def started(host):
    """started(name): since when a container runs."""
    return lambda name="old": host.check_output("docker inspect -f '{{.State.Running}} {{.State.StartedAt}}' %s", name)


@pytest.fixture(scope="session")
def container(host):
    """container("echo hello", "--label", …): a new one, and its driver; it is removed afterwards."""
    names = []

    def make(command, *options, name="new"):
        names.append(name)
        start = f"timeout 60 docker run --detach --name {name} --network none {' '.join(options)} inner:1"
        host.check_output(start + " sh -c %s", command)
        return host.check_output("docker inspect -f '{{.HostConfig.LogConfig.Type}}' %s", name)
    yield make
    host.run("docker rm --force %s", " ".join(names))


@pytest.fixture(autouse=True)
def forget(host):
    yield
    host.run("docker rm --force new shop-1 || true")


@pytest.fixture
def in_force(host):
    return lambda: host.check_output("docker info -f '{{.LoggingDriver}} {{.LiveRestoreEnabled}}'")


@pytest.fixture
def drop_in(host):
    """drop_in("ExecStartPre=…"): Docker's unit has that until the test is over."""
    def place(text):
        host.check_output("mkdir -p $(dirname %s) && printf %s %s > %s && systemctl daemon-reload", DROP_IN, "%s",
                          f"[Service]\n{text}\n", DROP_IN)
    yield place
    host.check_output("rm -f %s && systemctl daemon-reload && systemctl reset-failed docker", DROP_IN)


@pytest.fixture
def untouched(host, in_force):
    """The same file, the same dockerd, the same word of it, and no unfinished run."""
    def state():
        return (host.file(FILE).content_string, host.check_output("systemctl show -P MainPID docker"), in_force())
    before = state()
    yield
    assert state() == before
    assert not host.file(RECORDS + "/intent.json").exists


def plan(outcome):
    return outcome.plans["docker_logging"]


def test_the_users_keys_stay_and_new_containers_use_the_driver(host, container, in_force):
    assert json.loads(host.file(FILE).content_string) == {
        "shutdown-timeout": 20, "log-opts": {"max-size": "50MB", "max-file": "5"}, "labels": ["place=house"],
        "log-driver": "local", "live-restore": True}
    assert list(json.loads(host.file(FILE).content_string))[:3] == ["shutdown-timeout", "log-opts", "labels"]
    assert host.file(FILE).mode == 0o640
    assert in_force() == "local true"
    assert container("echo hello") == "local"
    assert host.check_output("docker logs new") == "hello"
    assert host.check_output("docker inspect -f '{{.HostConfig.LogConfig.Type}}' old") == "json-file"
    # It was copied before it was changed, and nobody else reads that.
    assert host.check_output("find %s/saved -name daemon.json -exec cat {} +", RECORDS).strip() == USERS.strip()
    assert host.file(RECORDS).mode == 0o700


def test_a_second_run_changes_nothing(site, untouched):
    assert not site().changing and not site("--check").changing


def test_a_container_runs_on_while_docker_is_restarted(host, site, started, container, eventually):
    before = started()
    container("i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.05; done")
    driver = {"docker_logging_driver": "json-file"}
    check, outcome = site("--check", "--diff", **driver), site("--diff", **driver)
    assert plan(check) == plan(outcome) and plan(outcome)["service"] == "restart"
    assert (plan(outcome)["from"], plan(outcome)["to"]) == ("local", "json-file")
    (result,) = [result for result in outcome.results if "steps" in result]
    assert "restarted Docker; 2 of 2 containers ran on" in result["steps"]
    assert [one["diff"] for one in check.results if "steps" in one] == [result["diff"]]
    assert started() == before
    last = int(host.check_output("docker logs --tail 1 new").split()[-1])
    eventually(lambda: int(host.check_output("docker logs --tail 1 new").split()[-1]) > last)
    assert [int(line.split()[1]) for line in host.check_output("docker logs new").splitlines()][:last] == list(
        range(1, last + 1))


def test_an_engine_of_which_nobody_told_is_told(host, site, in_force):
    """Somebody changes the file by hand, and restarts nothing."""
    site()
    changed = host.check_output("sed 's/\"local\"/\"journald\"/' %s", FILE)
    host.check_output("printf %s %s > %s", "%s", changed, FILE)
    outcome = site()
    assert any("changed by hand" in note for note in plan(outcome)["notes"])
    assert in_force() == "local true" and not site().changing


@pytest.mark.parametrize("wanted, words", [
    ({"docker_logging_extra_options": {"max-sice": "9m"}}, "driver local has no option max-sice"),
    ({"docker_logging_extra_options": {"max-size": "much"}}, "driver local can't be 'much'"),
    ({"docker_logging_extra_options": {"max-buffer-size": "4m"}}, "needs mode: non-blocking"),
    (LOKI | {"docker_logging_loki_plugin": "nowhere"}, "docker plugin install grafana/loki-docker-driver"),
])
def test_what_docker_would_stumble_over_is_refused(site, untouched, wanted, words):
    for mode in ([], ["--check"]):
        assert words in site(*mode, refused=True, **wanted).message


def test_a_flag_says_the_same_key(host, site, untouched):
    host.check_output("cp /etc/default/docker /root/kept")
    host.check_output("echo 'DOCKER_OPTS=\"--log-driver=journald\"' >> /etc/default/docker")
    try:
        said = site(refused=True).message
        assert "log-driver is set by a flag in /etc/default/docker as well" in said
    finally:
        host.check_output("mv /root/kept /etc/default/docker")


def test_a_file_that_is_no_json(host, site):
    good = host.file(FILE).content_string
    try:
        host.check_output("printf %s %s > %s", "%s", '{\n  "a": 1,\n}\n', FILE)
        said = site(refused=True).message
        assert FILE + " is not JSON (line 3, column 1" in said or FILE + " is not JSON (line 2, column 9" in said
    finally:
        host.check_output("printf %s %s > %s", "%s", good, FILE)


def test_a_host_without_docker(host, site):
    host.check_output("mv /usr/sbin/dockerd /root/dockerd")
    try:
        assert "Docker is not installed on this host" in site(refused=True).message
    finally:
        host.check_output("mv /root/dockerd /usr/sbin/dockerd")


def test_a_docker_that_does_not_start_with_it(host, site, started, in_force, drop_in):
    """The old file is back, Docker answers with it, and nobody's container noticed."""
    before, text = started(), host.file(FILE).content_string
    drop_in(f"ExecStartPre=/bin/sh -c '! grep journald {FILE}'")
    outcome = site(refused=True, docker_logging_driver="journald")
    assert "Docker does not start. The old daemon.json was put back, and Docker answers with it" in outcome.message
    assert "after the change: journal" in outcome.message
    assert host.file(FILE).content_string == text and in_force() == "local true" and started() == before
    assert not site().changing


@pytest.mark.parametrize("when", ["ExecStartPre", "ExecStartPost"])
def test_a_run_that_is_killed_after_the_file_was_replaced(host, site, started, in_force, drop_in, when):
    before, text = started(), host.file(FILE).content_string
    host.check_output("printf %s %s > /srv/killer.py", "%s", KILLER)
    drop_in(f"{when}=/usr/bin/python3 /srv/killer.py")
    site(refused=True, docker_logging_driver="journald")
    assert host.file(RECORDS + "/intent.json").exists and host.file(FILE).content_string != text
    drop_in("")
    check = site("--check", docker_logging_driver="journald")
    outcome = site(docker_logging_driver="journald")
    assert plan(check) == plan(outcome)
    assert "an earlier run was interrupted" in plan(outcome)["notes"][0]
    assert in_force() == "journald true" and started() == before
    assert not host.file(RECORDS + "/intent.json").exists
    site()
    assert host.file(FILE).content_string == text


def test_lines_reach_the_journal(host, site, container, eventually):
    site(docker_logging_driver="journald")
    assert container("echo to the journal; echo badly >&2") == "journald"
    # Two streams, in no order.
    eventually(lambda: sorted(host.run("journalctl -o cat CONTAINER_NAME=new").stdout.splitlines()) == [
        "badly", "to the journal"])
    assert host.check_output("docker logs new 2>/dev/null") == "to the journal"


class TestLoki:
    @pytest.fixture
    def streams(self, ask):
        """streams(container): [(labels, lines)]"""
        def read(name):
            answer = ask(":3100/loki/api/v1/query_range", query=f'{{container="{name}"}}', direction="forward")
            return [(one["stream"], [line for _time, line, *_more in one["values"]])
                    for one in answer.json["data"]["result"]]
        return read

    def test_lines_have_the_sites_labels(self, site, container, streams, eventually):
        site(**LOKI)
        said = """echo hello; echo 'ERROR: it broke' >&2; echo '{"level":40,"password":"hunter2hunter2"}'; sleep 1000"""
        assert container(said, name="shop-1") == "loki"
        container("echo by compose", "--label", "com.docker.compose.service=web",
                  "--label", "com.docker.compose.project=home")
        eventually(lambda: sum(len(lines) for _labels, lines in streams("shop-1")) == 3 and streams("new"))
        common = {"host": "monitor", "service": "shop", "service_name": "shop", "container": "shop-1"}
        found = {labels["level"]: (labels, lines) for labels, lines in streams("shop-1")}
        assert found["error"] == (common | {"level": "error", "stream": "stderr"}, ["ERROR: it broke"])
        assert found["unknown"] == (common | {"level": "unknown", "stream": "stdout"}, ["hello"])
        labels, (line,) = found["warning"]
        assert labels == common | {"level": "warning", "stream": "stdout"} and "hunter2" not in line
        ((labels, lines),) = streams("new")
        assert labels == {"host": "monitor", "service": "web", "service_name": "web", "container": "new",
                          "level": "unknown", "stream": "stdout"} and lines == ["by compose"]

    def test_a_traceback_is_one_entry(self, container, streams, eventually):
        container("python3 -c 'import json; json.loads(\"no\")'", name="shop-1")
        eventually(lambda: any(lines[-1].startswith("Traceback") and "JSONDecodeError" in lines[-1]
                               for labels, lines in streams("shop-1") if labels["level"] == "error"))

    def test_what_it_holds_on_to_when_loki_is_dead(self, host, site, container):
        site(docker_logging_loki_url="http://127.0.0.1:3999/loki/api/v1/push", **LOKI)
        assert container("trap 'exit 0' TERM; i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.01; done") == "loki"
        assert "tick 5" in host.check_output("for _ in $(seq 100); do timeout 20 docker logs new > /root/said; "
                                             "grep 'tick 5' /root/said && exit; sleep 0.2; done")
        # Its own patience is longer than ours: it ends because it may.
        host.check_output("timeout 120 docker stop --time 2 new")
        assert host.check_output("docker inspect -f '{{.State.ExitCode}}' new") == "0"
        assert "tick 1" in host.check_output("timeout 20 docker logs new | head -1")

    def test_an_authority_is_copied_into_the_plugin(self, host, site):
        host.check_output("echo certificate > /srv/authority.pem")
        wanted = LOKI | {"docker_logging_loki_authority": "/srv/authority.pem"}
        assert any("is copied into the plugin" in note for note in plan(site("--check", **wanted))["notes"])
        site(**wanted)
        assert host.check_output("cat /var/lib/docker/plugins/*/rootfs/etc/ssl/aistack-loki.pem") == "certificate"
        assert not site(**wanted).changing


@pytest.mark.last
class TestRemoval:
    @pytest.mark.parametrize("gone", [{"docker_logging_state": "absent"}, {"docker_logging_driver": ""}])
    def test_what_was_before_comes_back(self, host, site, started, in_force, gone):
        site()
        before = started()
        check, outcome = site("--check", **gone), site(**gone)
        assert plan(check) == plan(outcome) and plan(outcome)["action"] == "remove"
        assert host.file(FILE).content_string == USERS and host.file(FILE).mode == 0o640
        assert in_force() == "json-file false" and started() == before
        assert host.check_output("ls %s", RECORDS) == "saved"
        assert not site(**gone).changing
        # It would also hold after a restart.
        host.check_output("systemctl reset-failed docker; systemctl restart docker")
        assert in_force() == "json-file false"
        host.check_output("docker start old")
