// Follows a 202 to its end, a Response. `onProgress` gets status documents,
// aborting `signal` cancels the operation, the rest (credentials, headers) is for fetch.
export async function waitFor(response, { onProgress, signal, method, body, ...init } = {}) {
	if (response.status != 202) return response;
	const json = (r) => (r.bodyUsed ? {} : r.clone().json().then((it) => it ?? {}, () => ({})));
	const get = (r, name) => r.headers?.get(name); // CORS may hide it
	let said = await json(response);
	const at = get(response, "location"), status = get(response, "operation-location");
	const place = (at != status && at) || said.links?.response || status;
	if (!place) throw new TypeError("202 without a place to poll");
	const base = new URL(response.url), url = new URL(place, base);
	if (url.host == base.host) url.protocol = base.protocol;
	else init = {}; // no credentials for others
	let wait = onProgress ? 2 : 20, fails = 0, pause = 0, first = true, go;
	signal?.addEventListener("abort", () => go?.());
	try {
		for (;;) {
			if (said.status) onProgress?.(said);
			await new Promise((done) => setTimeout((go = done), 1000 * pause));
			signal?.throwIfAborted();
			const headers = new Headers(init.headers), began = Date.now();
			if (wait) headers.set("prefer", `wait=${wait}`);
			const r = await fetch(url, { ...init, signal, headers }).catch((error) => error);
			signal?.throwIfAborted();
			said = /202|404/.test(r.status) ? await json(r) : {};
			if (r.status == 202 || said.code == "result-not-ready") fails = first = 0;
			else if (r.status && (get(r, "operation-status") || !/429|50[234]/.test(r.status))) return r;
			else if (++fails > 8) return r.status ? r : Promise.reject(r);
			else if (first && !r.status) wait = 0; // CORS may forbid it
			const asked = get(r, "retry-after");
			pause = Math.min(asked > 0 ? asked : 2 ** fails, 30);
			if (wait && Date.now() - began > 900 * wait) pause = 0;
		}
	} finally {
		if (signal?.aborted) fetch(url, { ...init, method: "DELETE" }).catch(() => {});
	}
}
