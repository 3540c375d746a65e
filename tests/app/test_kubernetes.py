"""A study on Kubernetes: what a dry run says, and what a server is asked for that plays a cluster with processes."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from test_pipeline import Project

pytestmark = [pytest.mark.slow, pytest.mark.notebook]


class Cluster(BaseHTTPRequestHandler):
    """The few answers of a Kubernetes API that the executor asks for; a pod is a process of this machine."""

    jobs: ClassVar[dict[str, dict]] = {}
    pods: ClassVar[dict[str, subprocess.Popen]] = {}

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/jobs"):
            name, container = body["metadata"]["name"], body["spec"]["template"]["spec"]["containers"][0]
            self.jobs[name] = body
            self.pods[name] = subprocess.Popen([*container["command"], *container["args"]])
        self.answer(body)

    def do_GET(self):
        name = self.path.split("/")[-2]
        if self.path.endswith("/status"):
            code = self.pods[name].poll()
            state = {} if code is None else {"failed" if code else "succeeded": 1}
            return self.answer(self.jobs[name] | {"status": state})
        return self.answer({"items": []})

    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({})

    def answer(self, values):
        content = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path / "project")
    for run in ("train/b_s1", "ablation/main", "complexity/main", "report/report"):
        (project.folder / "params" / "toy" / f"{run}.yaml").unlink()
    project.write("resources", "train: {gpus: 1, memory_gb: 3}")
    return project


COMMAND = ("report", "toy", "--profile", "kubernetes")


def test_a_dry_run_names_the_runs_and_needs_no_cluster(project):
    _, text = project.call(*COMMAND, "--dry-run")
    assert "data_prep/demo" in text and "train/a_s1" in text
    assert not project.results("data_prep/demo").exists()


def test_each_run_is_a_job_with_the_resources_of_its_file(project, tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster]}
    config |= {
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "kube.json").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kube.json"))
    monkeypatch.setenv("PYTHONPATH", str(project.folder))  # where pods find the package
    monkeypatch.chdir(tmp_path)  # not where results lie
    try:
        project.report(*COMMAND)
    finally:
        server.shutdown()
    assert project.results("train/a_s1/record.json").is_file()
    pods = [job["spec"]["template"]["spec"] for job in Cluster.jobs.values()]
    database, training = [pod["containers"][0] for pod in pods]
    assert database["resources"]["requests"]["memory"] == "8192M"
    asked = training["resources"]["requests"]
    assert (asked["memory"], asked["nvidia.com/gpu"], asked["cpu"]) == ("3072M", "1", "950m")
    assert {"name": "iqa", "mountPath": "/iqa"} in training["volumeMounts"]
