# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""files/log_positions.py: what is read again after which end, without a host."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).resolve().parents[2] / "files" / "log_positions.py"
CURSOR = "s=472f;i=38;b=9597;m=5ef8;t=660e;x=93027a0c7124444a"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("log_positions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def positions(tmp_path):
    return tmp_path / "state" / "positions.yaml"


@pytest.fixture
def log(tmp_path):
    """A log of 2000 lines of 100 bytes, one unlike the other."""
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(b"%099d\n" % number for number in range(2000)))
    return path


@pytest.fixture
def journal(script, monkeypatch):
    """A journal of one entry a second, at whose end one stands; and what the shipper itself said in it."""
    entries = [{"__CURSOR": f"c{number}", "__REALTIME_TIMESTAMP": str(number * 1_000_000)} for number in range(1, 5001)]
    said = []

    def answer(*arguments):
        if any(argument.startswith("--unit=") for argument in arguments):
            return iter(said)
        if any(argument.startswith("--since=") for argument in arguments):
            return iter(entries[100:])
        given = next(argument.split("=", 1)[1] for argument in arguments if argument.startswith("--cursor="))
        at = [entry["__CURSOR"] for entry in entries].index(given)
        return iter(entries[at::-1])

    monkeypatch.setattr(script, "journal", answer)
    return said


def put(positions, **values):
    positions.parent.mkdir(exist_ok=True)
    positions.write_text(yaml.safe_dump({"positions": {str(key): value for key, value in values.items()}}))


def get(positions):
    return yaml.safe_load(positions.read_text())["positions"]


def state(positions):
    return json.loads(Path(f"{positions}.state").read_text())


# --- the file ------------------------------------------------------------------------------------------------------


PROMTAIL = f"""positions:
  /var/log/a.log: "497644"
  '/var/log/with: colon.log': "1"
  "/var/log/\\x01odd\\u263a \\"q\\".log": "2"
  ? /var/log/{'very-long-name-' * 12}.log
  : "3"
  cursor-journal: {CURSOR}
  cursor-4f8e: "1795367224"
"""
ALLOY = """positions:
  ? path: /var/log/a.log
    labels: '{host="gpu1", service="a", stream="file"}'
  : "497644"
  ? path: cursor-loki.source.journal.journal
    labels: '{}'
  : s=1;i=2
  ? path: cursor-4f8e
    labels: '{__meta_docker_container_id="4f8e", __meta_docker_container_label_com_docker_compose_project="stack",
      __meta_docker_container_name="/n8n"}'
  : "1795367224"
"""


@pytest.mark.parametrize("text", [PROMTAIL, "positions: {}\n", ""])
def test_what_promtail_wrote_is_read_and_written_as_yaml(script, text):
    known = script.parse(text)
    expected = {} if not text else yaml.safe_load(text)["positions"]
    assert {key.path: value for key, value in known.items()} == expected
    assert all(key.labels is None for key in known)
    assert yaml.safe_load(script.dump(known))["positions"] == expected
    assert script.parse(script.dump(known)) == known


def test_what_alloy_wrote_is_read_and_written(script):
    known = script.parse(ALLOY)
    assert [(key.path, key.labels, value) for key, value in known.items()] == [
        ("/var/log/a.log", '{host="gpu1", service="a", stream="file"}', "497644"),
        ("cursor-loki.source.journal.journal", "{}", "s=1;i=2"),
        ("cursor-4f8e", '{__meta_docker_container_id="4f8e", __meta_docker_container_label_com_docker_compose_project='
                        '"stack", __meta_docker_container_name="/n8n"}', "1795367224")]
    assert script.parse(script.dump(known)) == known


def test_an_unknown_file_is_left_alone(script, positions, capsys):
    positions.parent.mkdir()
    positions.write_text("other: {}\n")
    assert script.main(["resume", str(positions)]) == 0
    assert positions.read_text() == "other: {}\n"
    assert "left as it is" in capsys.readouterr().out


# --- ends ----------------------------------------------------------------------------------------------------------


def ended(script, positions, monkeypatch, result):
    monkeypatch.setenv("SERVICE_RESULT", result)
    script.main(["stopped", str(positions)])


def begun(script, positions, *options):
    script.main(["--unit", "promtail", "--bytes", "1000", *options, "resume", str(positions)])


def test_a_clean_end_changes_nothing(script, positions, log, journal, monkeypatch):
    put(positions, **{str(log): "150000", "cursor-journal": "c4000", "cursor-4f8e": "4000"})
    before = positions.read_text()
    ended(script, positions, monkeypatch, "success")
    begun(script, positions)
    assert positions.read_text() == before


@pytest.mark.parametrize("result", ["signal", "timeout", "oom-kill", "exit-code", None])
def test_any_other_end_goes_back(script, positions, log, journal, monkeypatch, result):
    put(positions, **{str(log): "150000", "cursor-journal": "c4000", "cursor-4f8e": "4000"})
    if result:
        ended(script, positions, monkeypatch, result)
    begun(script, positions)
    # A whole line more than asked for rather than part of one.
    assert get(positions) == {str(log): "149000", "cursor-journal": "c1000", "cursor-4f8e": "3700"}


def test_the_mark_is_good_for_one_start(script, positions, log, journal, monkeypatch):
    put(positions, **{str(log): "100000"})
    ended(script, positions, monkeypatch, "success")
    begun(script, positions)
    put(positions, **{str(log): "150000"})
    begun(script, positions)
    assert get(positions) == {str(log): "149000"}


def test_it_never_goes_behind_where_the_last_run_began(script, positions, log, journal, monkeypatch):
    put(positions, **{str(log): "149300", "cursor-journal": "c3990", "cursor-4f8e": "3995"})
    ended(script, positions, monkeypatch, "success")
    begun(script, positions)
    put(positions, **{str(log): "150000", "cursor-journal": "c4000", "cursor-4f8e": "4000"})
    ended(script, positions, monkeypatch, "signal")
    for _crash in range(3):
        begun(script, positions)
        assert get(positions) == {str(log): "149300", "cursor-journal": "c3990", "cursor-4f8e": "3995"}
        ended(script, positions, monkeypatch, "exit-code")


def test_a_line_longer_than_a_batch_is_read_again_as_a_whole(script, positions, tmp_path, journal, monkeypatch):
    log = tmp_path / "long.log"
    log.write_bytes(b"first\n" + b"x" * 300000 + b"\nlast\n")
    put(positions, **{str(log): str(log.stat().st_size)})
    ended(script, positions, monkeypatch, "signal")
    begun(script, positions)
    assert get(positions) == {str(log): "6"}


# --- what the shipper's own log tells ------------------------------------------------------------------------------


def refused(*times):
    return [{"__REALTIME_TIMESTAMP": str(int(when * 1e6)), "MESSAGE": 'msg="error sending batch, will retry"'}
            for when in times]


def other(when):
    return [{"__REALTIME_TIMESTAMP": str(int(when * 1e6)), "MESSAGE": "tailing"}]


def test_an_outage_begins_with_the_first_of_its_failures(script, journal):
    journal += refused(1000, 990, 980, 970) + other(960) + refused(400)
    assert script.accepted_until("promtail", 1005) == 970


def test_without_failures_all_was_taken(script, journal):
    journal += other(1000) + refused(400)
    assert script.accepted_until("promtail", 1005) == 1005


def test_who_cannot_ask_knows_nothing(script, journal):
    assert script.accepted_until("promtail", 1005) is None
    assert script.accepted_until("", 1005) is None


def test_only_what_grew_since_is_read_again(script, positions, log, tmp_path, journal, monkeypatch):
    """Loki takes nothing since 4000: a log that is older has arrived."""
    old = tmp_path / "old.log"
    old.write_bytes(log.read_bytes())
    os.utime(old, (3900, 3900))
    os.utime(log, (4002, 4002))
    put(positions, **{str(log): "150000", str(old): "150000", "cursor-journal": "c4001", "cursor-4f8e": "4010"})
    os.utime(positions, (4200, 4200))
    journal += refused(*range(4195, 3999, -5))
    begun(script, positions)
    assert get(positions) == {str(log): "149000", str(old): "150000", "cursor-journal": "c3984", "cursor-4f8e": "3985"}


# --- files that were changed meanwhile -------------------------------------------------------------------------------


def test_a_new_file_is_read_from_its_beginning(script, positions, log, journal, monkeypatch, capsys):
    put(positions, **{str(log): "150000"})
    ended(script, positions, monkeypatch, "success")
    log.rename(log.with_suffix(".log.1"))
    log.write_bytes(b"new\n" * 100000)
    begun(script, positions)
    assert get(positions) == {str(log): "0"}
    assert "unread of the one before: 50000 bytes" in capsys.readouterr().out


@pytest.mark.parametrize("result", ["success", "signal"])
def test_a_file_that_was_cut_is_read_from_its_beginning(script, positions, log, journal, monkeypatch, result):
    put(positions, **{str(log): "150000"})
    ended(script, positions, monkeypatch, result)
    log.write_bytes(b"new\n" * 100)
    begun(script, positions)
    assert get(positions) == {str(log): "0"}


def test_what_a_power_failure_cut_off_is_no_new_file(script, positions, log, journal, monkeypatch):
    put(positions, **{str(log): "100000"})
    begun(script, positions)
    put(positions, **{str(log): "199950"})
    log.write_bytes(log.read_bytes()[:150000])
    monkeypatch.setattr(script, "boot", lambda: "another")
    begun(script, positions)
    assert get(positions) == {str(log): "149000"}


def test_a_file_that_is_gone_is_left_to_the_shipper(script, positions, log, journal, monkeypatch):
    put(positions, **{str(log): "150000"})
    ended(script, positions, monkeypatch, "signal")
    log.unlink()
    begun(script, positions)
    assert get(positions) == {str(log): "150000"}


# --- the first start, and the next shipper ---------------------------------------------------------------------------


def test_a_first_start_reads_the_journal_from_an_age_on(script, positions, journal):
    positions.parent.mkdir()
    begun(script, positions, "--journal", "cursor-journal=12h")
    assert get(positions) == {"cursor-journal": "c101"}
    put(positions, **{"cursor-journal": "c200"})
    begun(script, positions, "--journal", "cursor-journal=12h")
    assert get(positions) == {"cursor-journal": "c101"}     # not clean, and no further back than there


def test_alloys_journal_has_a_folder_of_its_own(script, tmp_path, journal):
    paths = [tmp_path / name / "positions.yml" for name in ("loki.source.journal.journal", "loki.source.file.files")]
    options = ["--journal", "cursor-loki.source.journal.journal=12h", "--after", str(tmp_path / "handed-over")]
    assert script.main([*options, "resume", *map(str, paths)]) == 0
    assert script.read(paths[0]) == {
        script.Key("cursor-loki.source.journal.journal", labels): "c101" for labels in ("", "{}")}
    assert not paths[1].exists()


def test_what_was_handed_over_goes_before_an_age(script, tmp_path, journal):
    path, handed_over = tmp_path / "loki.source.journal.journal" / "positions.yml", tmp_path / "handed-over"
    handed_over.write_text('positions:\n  /var/log/a.log: "5"\n  cursor-4f8e: "4000"\n  cursor-journal: c77\n')
    options = ["--journal", "cursor-loki.source.journal.journal=12h", "--after", str(handed_over)]
    script.main([*options, "resume", str(path)])
    assert set(script.read(path).values()) == {"c77"}


def test_positions_are_handed_over_once(script, positions, log, journal, tmp_path):
    put(positions, **{str(log): "150000"})
    target = tmp_path / "legacy.yaml"
    command = ["--bytes", "1000", "handover", str(positions), str(target)]
    assert script.main(command) == 0
    assert get(target) == {str(log): "149000"}
    put(positions, **{str(log): "10"})
    script.main(command)
    assert get(target) == {str(log): "149000"}


def test_where_nothing_was_read_nothing_is_handed_over(script, positions, tmp_path):
    assert script.main(["handover", str(positions), str(tmp_path / "legacy.yaml")]) == 0
    assert not (tmp_path / "legacy.yaml").exists()


def test_all_files_of_a_pattern_are_marked(script, tmp_path, monkeypatch):
    for name in ("one", "two"):
        put(tmp_path / name / "positions.yml", **{"cursor-x": "7"})
    monkeypatch.setenv("SERVICE_RESULT", "success")
    script.main(["stopped", str(tmp_path / "*" / "positions.yml")])
    assert all(state(tmp_path / name / "positions.yml")["clean"] for name in ("one", "two"))


def test_after_a_clean_end_alloy_goes_back_by_what_its_stages_held(script, positions, log, journal, monkeypatch):
    """It throws away what waits for another line, but nothing waits of a file that had been quiet."""
    quiet = log.with_name("quiet.log")
    quiet.write_bytes(log.read_bytes())
    put(positions, **{str(log): "150000", str(quiet): "150000", "cursor-journal": "c4000", "cursor-4f8e": "4000"})
    os.utime(quiet, (1, 1))
    ended(script, positions, monkeypatch, "success")
    begun(script, positions, "--held")
    assert {key.path: value for key, value in script.read(positions).items()} == {
        str(log): "149700", str(quiet): "150000", "cursor-journal": "c3994", "cursor-4f8e": "3995"}


@pytest.mark.parametrize(("message", "clean"), [
    ("final error sending batch, no retries left, dropping data", False),
    ("failed to flush all queues during shutdown", False), ("stopping", True)])
def test_alloy_calls_an_end_with_loki_away_a_success(script, positions, log, journal, monkeypatch, message, clean):
    put(positions, **{str(log): "150000"})
    journal.append({"MESSAGE": f"level=error msg={message}", "__REALTIME_TIMESTAMP": "4000000000"})
    monkeypatch.setenv("SERVICE_RESULT", "success")
    script.main(["--unit", "alloy", "stopped", str(positions)])
    assert json.loads(positions.with_name(positions.name + ".state").read_text())["clean"] == clean
