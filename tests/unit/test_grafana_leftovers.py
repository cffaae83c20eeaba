# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came from files and is declared no more leaves Grafana; everything else stays.

Grafana is played by a stand-in that answers as Grafana 10.0.0 did (recorded, cut to what matters) and deletes what the
provisioning folder tells it to. Options of it play what newer versions do: say the origin in every list, call it by
its new name, or keep rules although they are to be deleted (as Grafana 13.2.0).
"""

import base64
import contextlib
import http.server
import json
import os
import signal
import threading
import time

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.aistack.observability.plugins.modules import grafana_leftovers

# path: what Grafana 10.0.0 answered. The lists of rules, mute timings and templates do not say where from.
RECORDED = {
    "/api/v1/provisioning/alert-rules": [
        {"id": 2, "uid": "aistack-host-cpu", "orgID": 1, "ruleGroup": "aistack", "title": "High processor use"},
        {"id": 5, "uid": "aistack-ollama-down", "orgID": 1, "ruleGroup": "aistack", "title": "Ollama down"},
        {"id": 6, "uid": "byhand", "orgID": 1, "ruleGroup": "hand", "title": "By hand"}],
    "/api/v1/provisioning/contact-points": [
        {"uid": "hand1", "name": "by hand", "type": "email", "settings": {}},
        {"uid": "", "name": "email receiver", "type": "email", "settings": {}},
        {"uid": "aistack-email", "name": "notifications", "type": "email", "settings": {}, "provenance": "file"},
        {"uid": "aistack-slack", "name": "notifications", "type": "slack", "settings": {}, "provenance": "file"}],
    "/api/v1/provisioning/mute-timings": [
        {"name": "always", "time_intervals": []}, {"name": "hand nights", "time_intervals": []},
        {"name": "api nights", "time_intervals": []}, {"name": "old $nights", "time_intervals": []}],
    "/api/v1/provisioning/templates": [
        {"name": "aistack", "template": ""}, {"name": "handmade", "template": ""}, {"name": "oldtext", "template": ""}],
    "/api/datasources": [
        {"name": "Prometheus", "readOnly": True}, {"name": "Hand", "readOnly": False},
        {"name": "Old source", "readOnly": True}],
}
PROVENANCES = {"byhand": "", "": "", "hand1": "", "hand nights": "", "api nights": "api", "handmade": ""}
DELETED = {"deleteRules": ("/api/v1/provisioning/alert-rules", "uid"),
           "deleteContactPoints": ("/api/v1/provisioning/contact-points", "uid"),
           "deleteMuteTimes": ("/api/v1/provisioning/mute-timings", "name"),
           "deleteTemplates": ("/api/v1/provisioning/templates", "name"),
           "deleteDatasources": ("/api/datasources", "name")}
LOGIN = {"username": "admin", "password": "pw"}


class StandIn:
    """Answers as Grafana 10.0.0 did, see above."""

    def __init__(self, folder):
        self.folder = folder
        self.state = json.loads(json.dumps(RECORDED))
        self.says_origin = False
        self.origin = "file"
        self.keeps = ()             # lists of the delete file that have no effect
        self.complaint = ""         # answered to a reload, in version 10 without the reason
        self.asked = []
        self.seen = []              # the delete files that a reload found

    def answer(self, method, path, login):
        self.asked.append((method, path))
        if login != "Basic " + base64.b64encode(b"admin:pw").decode():
            return 401, {"message": "Invalid username or password"}
        if path.startswith("/api/admin/provisioning/"):
            return self._reload(path.split("/")[4])
        if path == "/api/health":
            return 200, {"database": "ok", "version": "13.2.0" if self.says_origin else "10.0.0"}
        if path == "/api/alertmanager/grafana/config/api/v1/alerts":
            if self.says_origin:
                return 404, {"message": "Not found"}
            return 200, {"template_file_provenances": self._origins("templates"),
                         "alertmanager_config": {"muteTimeProvenances": self._origins("mute-timings")}}
        if path.startswith("/api/v1/provisioning/alert-rules/"):
            uid = path.rsplit("/", 1)[1]
            return 200, self._with_origin(next(rule for rule in self.state["/api/v1/provisioning/alert-rules"]
                                               if rule["uid"] == uid))
        entries = self.state[path]
        return 200, [self._with_origin(entry) for entry in entries] if self.says_origin else entries or None

    def _with_origin(self, entry):
        origin = PROVENANCES.get(entry.get("uid", entry.get("name")), self.origin)
        return {**entry, "provenance": origin} if origin else entry

    def _origins(self, kind):
        names = [entry["name"] for entry in self.state["/api/v1/provisioning/" + kind]]
        return {name: PROVENANCES.get(name, "file") for name in names if PROVENANCES.get(name, "file")}

    def _reload(self, place):
        for file in sorted((self.folder / place).glob("*.yml")):
            if file.name == grafana_leftovers.FILE:
                document = json.loads(file.read_text(encoding="utf-8"))
                self.seen.append((oct(file.stat().st_mode & 0o777), document))
                if self.complaint:
                    return 500, {"message": self.complaint}
                for entries, (path, key) in DELETED.items():
                    if entries not in self.keeps:
                        gone = {entry[key].replace("$$", "$") for entry in document.get(entries, ())}
                        self.state[path] = [entry for entry in self.state[path] if entry[key] not in gone]
        return 200, {"message": "config reloaded"}


@pytest.fixture
def folder(tmp_path):
    for name in ("alerting", "datasources"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def grafana(folder):
    stand_in = StandIn(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            code, body = stand_in.answer(self.command, self.path, self.headers["Authorization"])
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_POST = do_GET

        def log_message(self, *_args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        stand_in.url = f"http://127.0.0.1:{server.server_port}"
        yield stand_in
        server.shutdown()


@pytest.fixture
def run(grafana, folder, capsys):
    def call(check_mode=False, url="", login=None, **declared):
        arguments = {"url": url or grafana.url, "login": login or LOGIN, "provisioning": str(folder),
                     "declared": declared, "_ansible_check_mode": check_mode}
        with patch_module_args(arguments), contextlib.suppress(SystemExit):
            grafana_leftovers.main()
        return json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return call


DECLARED = {"rules": ["aistack-host-cpu"], "contact_points": ["aistack-email"], "mute_timings": ["always"],
            "templates": ["aistack"], "data_sources": ["Prometheus"]}
LEFT = {"rules": ["aistack-ollama-down"], "contact_points": ["aistack-slack"], "mute_timings": ["old $nights"],
        "templates": ["oldtext"], "data_sources": ["Old source"]}


def names(grafana):
    return {entry.get("uid", entry.get("name")) for entries in grafana.state.values() for entry in entries}


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("says_origin, origin", [(False, "file"), (True, "file"), (True, "classic-file-provisioning")])
def test_what_is_declared_no_more_leaves_and_all_else_stays(grafana, folder, run, says_origin, origin):
    grafana.says_origin, grafana.origin = says_origin, origin
    before = names(grafana)
    planned = run(check_mode=True, **DECLARED)
    assert (planned["changed"], planned["removed"]) == (True, LEFT)
    assert (names(grafana), files(folder)) == (before, [])
    assert ("POST", "/api/admin/provisioning/alerting/reload") not in grafana.asked
    done = run(**DECLARED)
    assert (done["changed"], done["removed"]) == (True, LEFT)
    assert before - names(grafana) == {name for kind in LEFT.values() for name in kind}
    assert files(folder) == []
    again = run(**DECLARED)
    assert (again["changed"], again["removed"]) == (False, {})
    assert len(grafana.seen) == 2, "the second run reloads nothing"


def test_the_delete_file_is_complete_and_not_for_everybody(grafana, run):
    run(**DECLARED)
    (mode, alerting), (_mode, sources) = grafana.seen
    assert mode == "0o640"
    assert alerting == {
        "apiVersion": 1, "deleteRules": [{"orgId": 1, "uid": "aistack-ollama-down"}],
        "deleteContactPoints": [{"orgId": 1, "uid": "aistack-slack"}],
        "deleteMuteTimes": [{"orgId": 1, "name": "old $$nights"}],
        "deleteTemplates": [{"orgId": 1, "name": "oldtext"}]}
    assert sources == {"apiVersion": 1, "deleteDatasources": [{"orgId": 1, "name": "Old source"}]}


def test_a_kind_that_is_not_declared_is_not_looked_at(grafana, run):
    assert run(data_sources=["Prometheus", "Old source"])["changed"] is False
    assert {path for _method, path in grafana.asked} == {"/api/datasources"}
    assert run(rules=[])["removed"] == {"rules": ["aistack-host-cpu", "aistack-ollama-down"]}


@pytest.mark.parametrize("name, text, stays", [
    ("mine.yml", "groups:\n  - name: g\n    rules:\n      - uid: aistack-ollama-down\n        title: x\n", True),
    ("mine.yaml", "groups: [{rules: [{title: x, uid: 'aistack-ollama-down'}]}]", True),
    ("mine.json", '{"groups": [{"rules": [{"uid":"aistack-ollama-down", "title": "x"}]}]}', True),
    ("rules.yml", '{"groups": [{"rules": [{"uid": "aistack-ollama-down"}]}]}', False),
    ("mine.yml", "groups: [{rules: [{uid: aistack-ollama-down-2, title: aistack-ollama-down}]}]", False),
    ("notes.txt", "uid: aistack-ollama-down", False),
])
def test_what_another_file_names_stays(grafana, folder, run, name, text, stays):
    """Another one than those of the declaration, which check mode finds as they were."""
    (folder / "alerting" / name).write_text(text, encoding="utf-8")
    assert ("rules" in run(**DECLARED)["removed"]) is not stays
    assert ("aistack-ollama-down" in names(grafana)) is stays


def test_what_was_left_behind_is_removed_and_made_good(grafana, folder, run):
    file = folder / "alerting" / grafana_leftovers.FILE
    file.write_text('{"deleteRules": [{"orgId": 1, "uid": "aistack-host-cpu"}]}', encoding="utf-8")
    everything = {kind: DECLARED[kind] + LEFT[kind] for kind in DECLARED}
    assert run(check_mode=True, **everything)["changed"] is True
    assert file.exists()
    assert run(**everything)["changed"] is True
    assert not file.exists()
    assert grafana.asked.count(("POST", "/api/admin/provisioning/alerting/reload")) == 1
    assert grafana.seen == [], "Grafana reads its files again without the one that was left behind"
    assert run(**everything)["changed"] is False


def test_what_is_still_in_use_is_named(grafana, folder, run):
    grafana.complaint = "Internal Server Error"
    said = run(**DECLARED)
    assert said["failed"] is True
    assert said["left"] == LEFT and said["removed"] == {}
    assert "contact points: aistack-slack" in said["msg"] and "Grafana says: Internal Server Error" in said["msg"]
    assert "currently used" in said["msg"]
    assert files(folder) == []


def test_rules_that_a_faulty_version_keeps_are_named(grafana, folder, run):
    grafana.says_origin, grafana.keeps = True, ("deleteRules",)
    said = run(**DECLARED)
    assert said["failed"] is True
    assert said["left"] == {"rules": ["aistack-ollama-down"]}
    assert said["removed"] == {kind: names for kind, names in LEFT.items() if kind != "rules"}
    assert "13.2.0" in said["msg"] and "131777" in said["msg"] and "grafana_version" in said["msg"]
    assert files(folder) == []


def test_a_killed_run_leaves_no_file_in_the_folder(folder):
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        with grafana_leftovers.Folder(str(folder), []).deleting("alerting", {"apiVersion": 1}):
            os.write(tell, b"x")
            signal.pause()
    os.read(ready, 1)
    assert files(folder) == ["alerting/" + grafana_leftovers.FILE]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for _attempt in range(1000):
        if not files(folder):
            break
        time.sleep(0.01)
    assert files(folder) == []


@pytest.mark.parametrize("more, problem", [
    ({"login": {"username": "admin", "password": "wrong"}}, "refuses the administrator's log-in"),
    ({"url": "http://127.0.0.1:9"}, "Grafana does not answer at http://127.0.0.1:9"),
])
def test_what_stands_in_the_way_is_said(run, more, problem):
    said = run(**more, **DECLARED)
    assert said["failed"] is True and problem in said["msg"]
    assert "wrong" not in json.dumps(said)
