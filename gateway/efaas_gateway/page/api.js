// Talks to the gateway: requests with the token of the printed address, and live changes.

const KEY = "efaas-token";

export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (found) {
    sessionStorage.setItem(KEY, decodeURIComponent(found[1]));
    history.replaceState(null, "", location.pathname + "#/");
  }
  return sessionStorage.getItem(KEY);
}

export function setToken(token) { sessionStorage.setItem(KEY, token); }

const headers = () => ({ Authorization: `Bearer ${sessionStorage.getItem(KEY) || ""}` });

export class Problem extends Error {
  constructor(body) {
    super(body.detail || body.title);
    this.status = body.status;
  }
}

async function request(path, options = {}) {
  const answer = await fetch(`api/v1${path}`, { ...options, headers: { ...headers(), ...options.headers } });
  if (!answer.ok) {
    let body = { status: answer.status, title: answer.statusText };
    try { body = await answer.json(); } catch { /* not from us */ }
    throw new Problem(body);
  }
  return answer;
}

export const get = async (path) => (await request(path)).json();
export const post = async (path) => (await request(path, { method: "POST" })).json();

export async function download(path, name) {
  const address = URL.createObjectURL(await (await request(path)).blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// EventSource cannot send a token, so the stream is read by hand; it is a few lines.
export async function follow(onChange, onState) {
  let last = "";
  let wait = 300;
  for (;;) {
    try {
      const answer = await request("/live", { headers: last ? { "Last-Event-ID": last } : {} });
      onState("live");
      wait = 300;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const part of parts) {
          const event = { data: "" };
          for (const line of part.split("\n")) {
            const colon = line.indexOf(": ");
            if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
          }
          if (event.id) last = event.id;
          if (event.event === "reset") { last = ""; onChange(null); } else if (event.data) onChange(JSON.parse(event.data));
        }
      }
    } catch (error) {
      if (error.status === 401) { onState("refused"); return; }
    }
    onState("lost");
    await new Promise((resume) => setTimeout(resume, wait));
    wait = Math.min(wait * 2, 5000);
  }
}
