# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter says what a real Ollama says, and follows it."""

import json

import pytest

OLLAMA = "http://127.0.0.1:11434"


@pytest.fixture
def models(ask):
    """models("tags") or models("ps"): Ollama's own word."""
    return lambda endpoint: ask(f"{OLLAMA}/api/{endpoint}").json["models"]


@pytest.fixture
def second_model(host):
    host.check_output("python3 /opt/stack/model.py add second /opt/stack/tiny-llama.gguf")
    yield "second:latest"
    host.check_output("python3 /opt/stack/model.py remove second")


def sizes(served):
    return {labels["model"]: value for labels, value in served.series("ollama_model_size_bytes")}


def test_it_says_what_ollama_says(ask, metrics, models):
    served, tags = metrics(":9877"), models("tags")
    assert served.value("ollama_up") == 1
    assert tags
    assert served.value("ollama_models_total") == len(tags)
    assert sizes(served) == {model["name"]: model["size"] for model in tags}
    assert served.value("ollama_total_size_bytes") == sum(model["size"] for model in tags)
    assert served.series("ollama_version_info", version=ask(f"{OLLAMA}/api/version").json["version"])


def test_it_follows_models_that_come_and_go(host, metrics, models, second_model, eventually):
    eventually(lambda: metrics(":9877").value("ollama_models_total") == 2)
    assert sizes(metrics(":9877")) == {model["name"]: model["size"] for model in models("tags")}
    host.check_output("python3 /opt/stack/model.py remove second")
    eventually(lambda: metrics(":9877").value("ollama_models_total") == 1)
    assert second_model not in sizes(metrics(":9877"))


def test_a_loaded_model_is_seen_in_memory(ask, metrics, models, eventually):
    assert metrics(":9877").value("ollama_models_loaded") == 0
    answer = ask(f"{OLLAMA}/api/generate", body={"model": "tiny", "prompt": "Hi", "stream": False, "keep_alive": -1,
                                                 "options": {"num_predict": 1}})
    assert answer.status == 200, answer.text
    eventually(lambda: metrics(":9877").value("ollama_models_loaded") == 1)
    served, (loaded,) = metrics(":9877"), models("ps")
    assert served.value("ollama_model_loaded", model="tiny:latest") == 1
    assert served.value("ollama_model_vram_bytes", model="tiny:latest") == loaded["size_vram"]
    assert served.value("ollama_model_ram_bytes", model="tiny:latest") == loaded["size"] - loaded["size_vram"] > 0
    assert served.value("ollama_model_keep_alive_forever", model="tiny:latest") == 1
    ask(f"{OLLAMA}/api/generate", body={"model": "tiny", "keep_alive": 0})
    eventually(lambda: metrics(":9877").value("ollama_models_loaded") == 0)


def test_a_dead_ollama_is_news_and_no_fault(host, metrics, eventually):
    """An answer with status 200, in which Ollama is down and no model is told of."""
    try:
        host.check_output("systemctl stop ollama")
        eventually(lambda: metrics(":9877").value("ollama_up") == 0)
        served = metrics(":9877")
        names = {name for name, _labels, _value in served.samples if name.startswith("ollama_model")}
        assert not names
        assert served.series("ollama_exporter_build_info")
    finally:
        host.check_output("systemctl start ollama")
    eventually(lambda: metrics(":9877").value("ollama_up") == 1)
    assert host.service("ollama_exporter").is_running


def test_each_ollama_has_an_exporter_while_it_is_in_the_inventory(host, main_pid, metrics, site):
    first = main_pid("ollama_exporter")
    outcome = site(monitored_services={"ollama": {}, "webui-ollama": {"type": "ollama", "url": "http://localhost:11434"}})
    assert list(outcome.changing) == ["ollama_exporter@webui-ollama"]
    assert metrics(":9878").value("ollama_up") == 1
    assert host.service("ollama_exporter@webui-ollama").is_enabled
    assert host.socket("tcp://127.0.0.1:9878").is_listening
    outcome = site()
    assert {name: plan["action"] for name, plan in outcome.changing.items()} == {
        "ollama_exporter@webui-ollama": "remove"}
    assert not host.socket("tcp://127.0.0.1:9878").is_listening
    assert not host.check_output("find / -xdev -name '*webui-ollama*' -not -path '/proc/*'")
    assert main_pid("ollama_exporter") == first
    assert metrics(":9877").value("ollama_up") == 1


def test_a_key_reaches_ollama_and_nobody_else(host, site, metrics, eventually):
    """A reverse proxy that wants a key: here one that writes down what it is given."""
    proxy = ("import http.server,json\n"
             "class Proxy(http.server.BaseHTTPRequestHandler):\n"
             "    def do_GET(self):\n"
             "        open('/run/seen', 'w').write(self.headers.get('Authorization', ''))\n"
             "        body = json.dumps({'version': '1', 'models': []}).encode()\n"
             "        self.send_response(200); self.send_header('Content-Length', str(len(body)))\n"
             "        self.send_header('Content-Type', 'application/json'); self.end_headers()\n"
             "        self.wfile.write(body)\n"
             "http.server.HTTPServer(('127.0.0.1', 11500), Proxy).serve_forever()\n")
    host.check_output("printf %s %s > /run/proxy.py && systemd-run --unit=proxy python3 /run/proxy.py", "%s", proxy)
    try:
        site(monitored_services={"ollama": {"url": "http://127.0.0.1:11500", "api_key": "key-7f3a"}})
        eventually(lambda: metrics(":9877").series("ollama_version_info", version="1"))
        assert host.file("/run/seen").content_string == "Bearer key-7f3a"
        assert "key-7f3a" not in host.check_output("cat /proc/*/cmdline /proc/*/environ 2>/dev/null | tr '\\0' ' '")
        assert "key-7f3a" not in host.check_output("systemctl show ollama_exporter; systemctl cat ollama_exporter")
    finally:
        host.run("systemctl stop proxy; rm -f /run/proxy.py /run/seen")
        site()
    assert not json.loads(host.check_output("curl -s %s/api/ps", OLLAMA))["models"]
