addEventListener("load", async () => {
  const $ = id => document.getElementById(id);
  const next = document.querySelector("main").dataset.next;
  const shown = {};
  let wake, isFirst = true, failures = 0;
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
  for (const part of document.querySelectorAll("[id]")) shown[part.id] = part.innerHTML;
  for (const sign of ["online", "pageshow", "visibilitychange"])
    addEventListener(sign, () => wake && wake());
  localTimes();
  for (;;) {
    const wait = isFirst || document.hidden ? 0 : 5, began = Date.now();
    let pause = 0;
    try {
      const answer = await fetch(next, {
        headers: wait ? {Accept: "text/html", Prefer: "wait=" + wait} : {Accept: "text/html"},
        redirect: "manual",
        cache: "no-store",
        signal: AbortSignal.timeout(15000)
      });
      const {status, headers} = answer;
      if (status == 429 || status > 499 && !headers.get("Operation-Status")) throw answer;
      if (status != 202) return location.replace(next + location.hash);
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      if (isFirst) stop(); // the Refresh that helps where this does not work
      else if (Date.now() - began < 900 * wait || !wait) pause = headers.get("Retry-After") || 1;
      isFirst = false;
      failures = 0;
    } catch {
      pause = Math.min(2 ** failures++, 30);
    }
    $("lost").hidden = failures < 2;
    await new Promise(go => { wake = go; setTimeout(go, 1e3 * pause); });
  }
});
