stop(); // the Refresh that helps where scripts don't run
(async () => {
  const $ = id => document.getElementById(id);
  const next = document.querySelector("main").dataset.next;
  const shown = {};
  let wake, failures = 0;
  const localTimes = () => {
    for (const time of document.querySelectorAll("time"))
      time.textContent = new Date(time.dateTime).toLocaleTimeString([], {timeStyle: "short"});
  };
  const show = page => {
    document.title = page.title;
    for (const part of page.querySelectorAll("[id]"))
      if ($(part.id) && shown[part.id] != part.innerHTML)
        $(part.id).innerHTML = shown[part.id] = part.innerHTML;
    localTimes();
  };
  for (const sign of ["online", "pageshow", "visibilitychange"])
    addEventListener(sign, () => wake && wake());
  localTimes();
  for (;;) {
    const wait = document.hidden ? 25 : 5, began = Date.now();
    let pause = 0;
    try {
      const answer = await fetch(next, {
        headers: {Accept: "text/html", Prefer: "wait=" + wait},
        redirect: "manual",
        cache: "no-store",
        signal: AbortSignal.timeout(1e3 * wait + 1e4)
      });
      if ([429, 502, 503, 504].includes(answer.status)) throw answer;
      if (answer.status != 202) return location.replace(next);
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      failures = 0;
      if (Date.now() - began < 900 * wait) pause = answer.headers.get("Retry-After");
    } catch {
      pause = Math.min(2 ** failures++, 30);
    }
    $("lost").hidden = failures < 2;
    await new Promise(go => { wake = go; setTimeout(go, 1e3 * pause); });
  }
})();
