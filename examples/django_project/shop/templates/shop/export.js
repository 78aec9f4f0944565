// Starts an export and follows it. The first three functions know nothing of the page.

const seconds = (number) => new Promise((done) => setTimeout(done, 1000 * number));

// Send the form; returns where the operation is found.
export async function start(url, body) {
  const response = await fetch(url, { method: "POST", body, redirect: "manual" });
  if (response.status !== 202) throw new Error(`not accepted: ${response.status || "log in again"}`);
  const { headers } = response;
  return { response: headers.get("location"), status: headers.get("operation-location") };
}

// Ask for the status document until it is the last one, and show each.
export async function follow(operation, show) {
  for (;;) {
    const response = await fetch(operation.status, { redirect: "manual" });
    if (response.status !== 200) throw new Error(`unknown: ${response.status || "log in again"}`);
    const found = await response.json();
    show(found);
    if (!["running", "cancelling"].includes(found.status)) return found;
    await seconds(response.headers.get("retry-after"));
  }
}

// Have it stop; `follow` sees when it has.
export async function cancel(operation) {
  await fetch(operation.response, { method: "DELETE" });
}

// What is said about a status document.
export function describe({ status, progress, error }) {
  if (error) return `${status}: ${error.message}`;
  return progress ? `${status}: ${progress.completed} of ${progress.total} orders` : status;
}

// Have the form's buttons do all this without leaving the page.
export function enhance(page) {
  const find = (selector) => page.querySelector(selector);
  const [form, bar, text] = [find("#export"), find("progress"), find("output")];
  const [cancelling, download] = [find("#cancel"), find("#download")];

  const show = (found) => {
    text.value = describe(found);
    if (found.progress) [bar.max, bar.value] = [found.progress.total, found.progress.completed];
    if (found.status === "succeeded") bar.value = bar.max;
    download.hidden = found.status !== "succeeded";
  };

  const busy = (isBusy) => {
    for (const button of form.querySelectorAll("button")) button.disabled = isBusy;
    cancelling.hidden = !isBusy;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData(form, event.submitter);
    busy(true);
    bar.removeAttribute("value");
    [text.value, find("#operation").hidden, download.hidden] = ["starting", false, true];
    try {
      const operation = await start(form.action, body);
      cancelling.onclick = () => cancel(operation);
      download.href = operation.response;
      await follow(operation, show);
    } catch (error) {
      text.value = error.message;
    }
    busy(false);
  });
}
