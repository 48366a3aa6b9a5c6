const byId = (id) => document.getElementById(id);
const cards = byId("cards"), drop = byId("drop"), input = drop.querySelector("input"), tools = byId("tools");
// As many images are under way as are worth captioning together.
const AT_ONCE = 16, waiting = [];
// Images of the session that are kept when the page is loaded again, and the side of what is kept of them.
const KEPT = 200, THUMBNAIL = 200;
const tokenForm = byId("token"), secret = byId("secret"), decode = byId("decode"), count = byId("count"), seed = byId("seed");
let running = 0;
// What was captioned, the latest first: name, captions, thumbnail.
let session = [];
const make = (tag, name, text) => Object.assign(document.createElement(tag), { className: name, textContent: text });

// Of each search how many captions it gives by itself and at most, which the service's own is, and whether it explains.
const searches = JSON.parse(byId("searches").textContent);
function refresh() {
  const search = searches[decode.value || searches.own];
  count.placeholder = search.captions;
  count.max = search.most;
  count.disabled = search.most === 1;
  if (count.disabled) count.value = "";
  byId("seeded").hidden = (decode.value || searches.own) !== "sample";
}

function settings() {
  const query = new URLSearchParams();
  refresh();
  if (decode.value) query.set("decode", decode.value);
  if (count.value) query.set("num_captions", count.value);
  if (!byId("seeded").hidden && seed.value) query.set("seed", seed.value);
  return query;
}

function add(files) {
  const added = [];
  for (const file of files) {
    const card = make("article", "card", ""), image = document.createElement("img"), state = make("p", "soft", "waiting");
    const job = { file, image, state, card, query: settings() };
    image.src = URL.createObjectURL(file);
    image.alt = file.name;
    job.seen = new Promise((done) => { image.onload = image.onerror = () => { URL.revokeObjectURL(image.src); done(thumbnail(image)); }; });
    card.append(image, state, make("p", "name soft", file.name));
    added.push(card);
    waiting.push(job);
  }
  cards.prepend(...added);
  next();
}

// What stays of an image when the page is loaded again; nothing of one that the browser cannot show.
function thumbnail(image) {
  if (!image.naturalWidth) return "";
  const scale = Math.min(1, THUMBNAIL / Math.max(image.naturalWidth, image.naturalHeight)), canvas = document.createElement("canvas");
  canvas.width = Math.max(1, image.naturalWidth * scale);
  canvas.height = Math.max(1, image.naturalHeight * scale);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8);
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    caption(waiting.shift()).finally(() => { running -= 1; next(); });
  }
}

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// A service that is full is asked again when it says so.
async function ask(path, query, file, say) {
  for (;;) {
    const token = sessionStorage.getItem("token");
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const text = query.toString();
    const response = await fetch(text ? `${path}?${text}` : path, { method: "POST", body: file, headers });
    if (response.status !== 503) return response;
    say("waiting: others come first");
    await sleep(Number(response.headers.get("Retry-After")) || 1);
    say("going on");
  }
}

// What the service says of a file, without what it tells programs to send instead.
function forVisitors(error, file) {
  if (!file.size) return "This file is empty: choose an image.";
  return error.split("; send the file's bytes")[0].replace(/^the image: /, "This file ");
}

const reason = (error) => error instanceof TypeError ? "The service does not answer: is it still running?" : error.message;

async function caption(job) {
  const { file, state } = job, say = (text) => { state.textContent = text; };
  state.className = "soft";
  say("captioning");
  try {
    const response = await ask("caption", job.query, file, say);
    const answer = await response.json();
    if (response.status === 401) {
      refused.push(job);
      tokenForm.hidden = false;
      secret.focus();
    }
    if (!response.ok) throw new Error(forVisitors(answer.error, file));
    const entry = { image: file.name, captions: answer.captions, seen: await job.seen };
    session.unshift(entry);
    show(job, entry);
    keep();
    byId("news").textContent = `${file.name}: ${entry.captions[0].caption.trim()}`;
  } catch (error) {
    state.className = "error";
    say(reason(error));
  }
}

// Puts an image's captions into its card, each to be explained; without its file, after the page was loaded again, they are text.
function show(job, entry) {
  const { image, state, card, file } = job, texts = entry.captions.map((found) => found.caption.trim());
  image.alt = texts[0];
  const list = make("ol", "said", "");
  list.append(...entry.captions.map((found, rank) => {
    const line = make("li", "", ""), said = make(file && searches.explains ? "button" : "p", "", texts[rank]);
    line.append(said, make("span", "", found.score.toFixed(3)));
    line.lastChild.title = "score: mean log-probability of its tokens, unless the service says otherwise";
    if (file && searches.explains) {
      said.title = "Where did it come from?";
      said.setAttribute("aria-expanded", "false");
      said.onclick = () => explain(job, said, rank);
    }
    return line;
  }));
  state.replaceWith(list);
}

async function explain(job, button, rank) {
  const { card, file } = job, open = button.getAttribute("aria-expanded") === "true";
  card.querySelector(".explained, .explaining")?.remove();
  card.querySelectorAll(".said button").forEach((other) => other.setAttribute("aria-expanded", "false"));
  card.classList.remove("wide");
  const turn = job.turn = (job.turn ?? 0) + 1;
  if (open) return;
  button.setAttribute("aria-expanded", "true");
  const state = make("p", "soft explaining", "explaining");
  state.setAttribute("role", "status");
  card.querySelector(".said").after(state);
  try {
    const query = new URLSearchParams(job.query);
    query.set("rank", rank);
    const response = await ask("explain", query, file, (text) => { state.textContent = text; });
    const answer = await response.json();
    if (turn !== job.turn) return;
    if (!response.ok) throw new Error(forVisitors(answer.error, file));
    card.classList.add("wide");
    state.replaceWith(explained(answer, answer.seen));
    card.scrollIntoView({ block: "nearest" });
  } catch (error) {
    state.className = "error explaining";
    state.textContent = reason(error);
    button.setAttribute("aria-expanded", "false");
  }
}

// The session is kept for this tab; what does not fit is kept without images.
function keep() {
  tools.hidden = !session.length;
  hint();
  for (const kept of [session.slice(0, KEPT), session.slice(0, KEPT).map((entry) => ({ ...entry, seen: "" }))]) {
    try {
      sessionStorage.setItem("history", JSON.stringify(kept));
      return;
    } catch { /* full */ }
  }
}

// Captions without their files, from before the page was loaded again, are not explained by a click.
function hint() {
  if (!searches.explains) return;
  byId("hint").textContent = cards.querySelector(".said button") ? "A click on a caption shows where it came from." : "To see where a caption came from, choose its image again.";
}

function restore() {
  try {
    session = JSON.parse(sessionStorage.getItem("history") ?? "[]");
  } catch {
    session = [];
  }
  for (const entry of session) {
    const card = make("article", "card", ""), image = document.createElement("img"), state = make("p", "", "");
    image.hidden = !entry.seen;
    image.src = entry.seen || "data:,";
    card.append(image, state, make("p", "name soft", entry.image));
    show({ image, state, card }, entry);
    cards.append(card);
  }
  tools.hidden = !session.length;
  hint();
}

// Images that need a token; they are asked for again with one.
const refused = [];
tokenForm.onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", secret.value.trim());
  tokenForm.hidden = true;
  waiting.push(...refused.splice(0));
  next();
};
byId("settings").onsubmit = (event) => event.preventDefault();
decode.onchange = refresh;
refresh();

const rows = () => [...session].reverse().flatMap((entry) => entry.captions.map((found, rank) => ({ image: entry.image, rank, ...found })));
// As `infer --format csv` and `jsonl` write them; a text that a table would take for a formula is left as it is.
const quoted = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
const CSV = ["image", "rank", "caption", "log_prob", "score"];
const csv = () => [CSV, ...rows().map((row) => CSV.map((name) => quoted(String(row[name]))))].map((row) => row.join(",")).join("\n") + "\n";
const jsonl = () => rows().map((row) => JSON.stringify(row) + "\n").join("");
function download(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  byId("done").textContent = `${name} is downloaded`;
}
byId("csv").onclick = () => download("captions.csv", "text/csv", csv());
byId("jsonl").onclick = () => download("captions.jsonl", "application/jsonl", jsonl());
byId("copy").onclick = async () => {
  const text = [...session].reverse().map((entry) => `${entry.image}: ${entry.captions[0].caption.trim()}\n`).join("");
  try {
    await navigator.clipboard.writeText(text);
    byId("done").textContent = "copied";
  } catch {
    byId("done").textContent = "The browser allows no copying here: download instead.";
  }
};
byId("clear").onclick = () => {
  session = [];
  cards.replaceChildren();
  keep();
  byId("done").textContent = "";
};

input.onchange = () => { add(input.files); input.value = ""; };
addEventListener("paste", (event) => add(event.clipboardData.files));
addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); add(event.dataTransfer.files); });
restore();
