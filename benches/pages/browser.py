"""A browser without a window, over WebDriver, for the measurements beside this file. Needs `chromium` and `chromedriver`."""

import json
import subprocess
import tempfile
import urllib.request


class Browser:
    def __init__(self):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.driver.stdout:
            if "started successfully on port " in line:
                port = line.split("on port ")[1].strip().rstrip(".")
                break
        self.base = f"http://127.0.0.1:{port}/session"
        self.folder = tempfile.TemporaryDirectory()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1400"]
        flags.append(f"--user-data-dir={self.folder.name}")
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": flags}}
        session = self.post("", {"capabilities": {"alwaysMatch": wanted}})
        self.base += "/" + session["sessionId"]
        self.post("/timeouts", {"script": 600_000, "pageLoad": 600_000})

    def post(self, path, body):
        request = urllib.request.Request(
            self.base + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["value"]

    def open(self, address):
        self.post("/url", {"url": address})

    def eval(self, script):
        body = f"""const done = arguments[arguments.length - 1];
            (async () => {{ {script} }})().then(done, (error) => done(String(error)));"""
        return self.post("/execute/async", {"script": body, "args": []})

    def close(self):
        urllib.request.urlopen(urllib.request.Request(self.base, method="DELETE"))
        self.driver.kill()
        self.driver.wait()
