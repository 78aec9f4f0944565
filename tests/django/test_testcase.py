"""Tests of a project's own: within the transaction of a `TestCase`, nothing changes its thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.server

PROJECT = """
import sys
from pathlib import Path
from django.conf import settings
settings.configure(
    SECRET_KEY="for tests", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    STATIC_URL="/static/", MEDIA_URL="/media/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3",
        "NAME": "db.sqlite3", "TEST": {"NAME": sys.argv[1]}, "CONN_MAX_AGE": 600}},
    MIDDLEWARE=["raincheck.django.RaincheckMiddleware"],
    RAINCHECK={"STORE": "memory:"},
)
import django
django.setup()
from django.contrib.auth.models import Group
from django.db import connections
from django.http import HttpResponse
from django.test import LiveServerTestCase, TestCase, TransactionTestCase
from django.test.utils import get_runner
from django.urls import path
from raincheck import long_running

def names(request):
    Group.objects.create(name="by the view")
    return HttpResponse(",".join(sorted(it.name for it in Group.objects.all())))

async def names_async(request):
    await Group.objects.acreate(name="by the view")
    return HttpResponse(",".join(sorted([it.name async for it in Group.objects.all()])))

urlpatterns = [
    path("names", names),
    path("async", names_async),
    path("marked", long_running(names)),
]

class InTransaction(TestCase):
    def setUp(self):
        Group.objects.create(name="by the test")

    def test_sync(self):
        for url in ("/names", "/async", "/marked"):
            with self.subTest(url):
                self.assertEqual(self.client.get(url).content, b"by the test,by the view")
                Group.objects.filter(name="by the view").delete()

    async def test_async(self):
        for url in ("/names", "/async", "/marked"):
            with self.subTest(url):
                answer = await self.async_client.get(url)
                self.assertEqual(answer.content, b"by the test,by the view")
                await Group.objects.filter(name="by the view").adelete()

class OutOfTransaction(TransactionTestCase):
    def test_deferred(self):
        answer = self.client.get("/marked")
        self.assertEqual(answer.status_code, 202)
        while (found := self.client.get(answer["Location"])).status_code == 202:
            pass
        self.assertEqual(b"".join(found), b"by the view")

class Live(LiveServerTestCase):
    def test_live(self):
        from urllib.request import urlopen
        Group.objects.create(name="by the test")
        answer = urlopen(self.live_server_url + "/names").read()
        self.assertEqual(answer, b"by the test,by the view")
        Group.objects.filter(name="by the view").delete()
        with urlopen(self.live_server_url + "/marked") as accepted:
            where = accepted.headers["Location"]
        while (found := urlopen(where)).status == 202:
            pass
        self.assertEqual(found.read(), b"by the test,by the view")

def suite(**kwargs):
    import unittest
    loader = unittest.defaultTestLoader
    runner = get_runner(settings)(verbosity=1, interactive=False)
    runner.build_suite = lambda *a, **k: loader.loadTestsFromModule(sys.modules[__name__])
    return runner.run_tests([])

if __name__ == "__main__":
    sys.exit(bool(suite()))
"""


@pytest.mark.parametrize("database", ["test.sqlite3", "file:memory?mode=memory&cache=shared"])
def test_a_view_sees_and_writes_what_its_test_does(tmp_path: Path, database: str) -> None:
    script = tmp_path / "project.py"
    script.write_text(PROJECT)
    done = subprocess.run(
        [sys.executable, str(script), database],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
