"""A real browser (chromium by chromedriver) looks at RabbitMQ's management UI, and takes pictures of what it sees.

    browser.py URL QUEUE DIRECTORY NAME...     with pictures NAME: queues, letter, empty
"""

import base64
import json
import subprocess
import sys
import time
import urllib.request
from urllib.parse import quote

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
WIDTH, HEIGHT = 1100, 1000
PATIENCE = 30


class Browser:
    def __init__(self):
        command = ["chromedriver", "--port=0"]
        self.driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.base = None
        for line in self.driver.stdout:
            if "successfully on port" in line:
                self.base = f"http://127.0.0.1:{line.split()[-1].rstrip('.')}/session"
                break
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": options}}
        answer = self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self.base += "/" + answer["sessionId"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def find(self, path):
        """The page asks the broker for what it shows: until that is there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.call("POST", "/elements", {"using": "xpath", "value": path})
            if found:
                return found[0][ELEMENT]
            if time.monotonic() > deadline:
                raise SystemExit(f"the page does not show {path}")
            time.sleep(0.1)

    def wait(self, script):
        deadline = time.monotonic() + PATIENCE
        while not self.run(script):
            if time.monotonic() > deadline:
                raise SystemExit(f"in vain: {script}")
            time.sleep(0.1)

    def click(self, path):
        self.call("POST", f"/element/{self.find(path)}/click", {})

    def write(self, path, text):
        element = self.find(path)
        self.call("POST", f"/element/{element}/clear", {})
        self.call("POST", f"/element/{element}/value", {"text": text})

    def picture(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", "/screenshot")))


def log_in(browser, url):
    browser.open(url)
    browser.write("//input[@name='username']", "guest")
    browser.write("//input[@name='password']", "guest")
    browser.click("//input[@type='submit']")
    browser.find("//a[contains(@href, '#/queues')]")


def queues(browser, url, queue, path):
    """What waits where."""
    browser.open(f"{url}/#/queues")
    browser.find(f"//a[normalize-space()='{queue}']")
    browser.picture(path)


def letter(browser, url, queue, path):
    """One dead letter, which is put back."""
    browser.open(f"{url}/#/queues/%2F/{quote(queue)}")
    # Each refresh would close what was opened.
    browser.find("//h2[contains(., 'Get messages')]")
    browser.run("$('#update-every').val('').change()")
    browser.click("//h2[contains(., 'Get messages')]")
    browser.click("//form[@action='#/queues/get']//input[@type='submit']")
    browser.find("//div[@id='msg-wrapper']//th[contains(., 'dead-reason')]")
    # The section opens slowly, and moves what is below.
    browser.wait("return $(':animated').length == 0")
    browser.run("$('#msg-wrapper th:contains(dead-reason)')[0].scrollIntoView({block: 'center'})")
    browser.picture(path)


def empty(browser, url, queue, path):
    """The queue after the requeue."""
    browser.open(f"{url}/#/queues/%2F/{quote(queue)}")
    browser.find("//th[normalize-space()='Messages']")
    browser.find("//h3[contains(., 'Queued messages')]")
    browser.picture(path)


def main():
    url, queue, directory, *names = sys.argv[1:]
    browser = Browser()
    try:
        log_in(browser, url)
        for name in names:
            {"queues": queues, "letter": letter, "empty": empty}[name](browser, url, queue, f"{directory}/{name}.png")
    finally:
        browser.close()


main()
