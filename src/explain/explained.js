// Draws an explanation, as `explain --format jsonl` has it, into a page: the image with a heat map, the caption's tokens to point
// at, and what is known of each. `image`: an address of the square that the encoder looked at.
const explained = (() => {
  const support = [[74, 20, 140], [200, 30, 110], [250, 120, 30], [255, 236, 120]], against = [40, 120, 255];
  const element = (tag, name, text) => Object.assign(document.createElement(tag), { className: name || "", textContent: text ?? "" });
  const percent = (share) => share >= 0.1 ? `${Math.round(100 * share)}%` : share >= 0.001 ? `${(100 * share).toFixed(1)}%` : "under 0.1%";
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  // Spaces and line ends are shown, for they are a part of tokens.
  const METHODS = { attention: "Gradient-weighted attention", occlusion: "Occlusion: what covering a part of the image costs" };
  // As explain::HARDLY is, and how faint a map of hardly any effect is.
  const HARDLY = 0.01, FAINT = 0.25;
  const code = (text) => element("code", "", text.replaceAll(" ", "␣").replaceAll("\n", "⏎") || "∅");

  // As overlay.rs draws it: bilinear between the middles of cells.
  function color(value) {
    if (value < 0) return against;
    const place = Math.min(value, 1) * (support.length - 1), below = Math.min(Math.floor(place), support.length - 2);
    return support[below].map((from, i) => from + (support[below + 1][i] - from) * (place - below));
  }
  // A gray with the color of a value over it.
  function colored(gray, value, strength) {
    const cover = 0.85 * strength * Math.sqrt(Math.min(Math.abs(value), 1));
    return color(value).map((over) => gray * (1 - cover) + over * cover);
  }
  // The colors from `least` to 1, over the gray that a middling gray of the image is dimmed to.
  function legend(canvas, least, strength) {
    const context = canvas.getContext("2d");
    for (let x = 0; x < canvas.width; x++) {
      context.fillStyle = `rgb(${colored(96, least + (1 - least) * x / (canvas.width - 1), strength).map(Math.round)})`;
      context.fillRect(x, 0, 1, canvas.height);
    }
  }
  function heat(canvas, original, cells, side, strength) {
    const size = canvas.width, context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(original, 0, 0, size, size);
    const largest = cells ? Math.max(...cells.map(Math.abs)) : 0;
    if (!cells) return;
    const pixels = context.getImageData(0, 0, size, size), data = pixels.data, last = side - 1;
    const places = Array.from({ length: size }, (_, at) => {
      const place = Math.min(Math.max((at + 0.5) / size * side - 0.5, 0), last), low = Math.floor(place);
      return [low, Math.min(low + 1, last), place - low];
    });
    for (let y = 0; y < size; y++) {
      const [top, bottom, dy] = places[y];
      for (let x = 0; x < size; x++) {
        const [left, right, dx] = places[x], at = 4 * (y * size + x);
        const row = (line) => cells[line * side + left] * (1 - dx) + cells[line * side + right] * dx;
        const value = largest ? (row(top) * (1 - dy) + row(bottom) * dy) / largest : 0;
        const gray = 0.75 * (0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
        colored(gray, value, strength).forEach((over, i) => { data[at + i] = over; });
      }
    }
    context.putImageData(pixels, 0, 0);
  }
  function place(cells, side) {
    const most = cells.indexOf(Math.max(...cells));
    return `row ${Math.floor(most / side) + 1} and column ${most % side + 1} of ${side}`;
  }
  // `bars`: label, share and how it is written.
  function bars(list, rows, length) {
    list.replaceChildren(...rows.flatMap(([label, share, text, own]) => {
      const name = element("dt", own ? "own" : ""), bar = element("div", "bar");
      name.append(label);
      bar.style.width = `${Math.max(0.5, 100 * share / length)}%`;
      return [name, bar, element("dd", "soft", text)].map((part) => Object.assign(part, { style: part.style.cssText + ";margin:0" }));
    }));
  }

  // Everywhere on the page: Escape goes back to the start, H shows and hides heat maps.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input:not([type=checkbox]), select, textarea")) return;
    if (event.key === "Escape") document.querySelectorAll(".explained").forEach((root) => root.start());
    if (event.key === "h" || event.key === "H") document.querySelectorAll(".explained .heat input").forEach((box) => box.click());
  });

  return function explained(data, image) {
    const root = element("div", "explained"), figure = element("figure"), canvas = document.createElement("canvas");
    canvas.width = canvas.height = Math.min(480, data.side * Math.ceil(384 / data.side));
    canvas.setAttribute("role", "img");
    const occlusion = data.method === "occlusion", scale = element("div", "scale soft"), colors = document.createElement("canvas");
    [colors.width, colors.height] = [128, 8];
    scale.append(element("span", "", occlusion ? "speaks against it" : "not relevant"), colors, element("span", "", "most relevant"));
    const drawn = element("label", "heat"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked: true, title: "H" });
    box.setAttribute("aria-keyshortcuts", "h");
    box.onchange = () => show(shown);
    drawn.append(box, "heat map (H)");
    const caption = element("figcaption", "soft", METHODS[data.method]);
    caption.prepend(drawn);
    figure.append(canvas, scale, caption);

    const said = element("div"), tokens = element("div", "tokens"), told = element("p", "told soft");
    tokens.setAttribute("role", "group");
    tokens.setAttribute("aria-label", "Tokens of the caption: choose one to see where it came from");
    told.setAttribute("aria-live", "polite");
    const prompt = element("div", "prompt soft"), before = data.prompt.map((text) => element("span", "", text));
    prompt.append(...before);
    const instead = element("dl", "bars"), insteadTitle = element("h3", "", "In its place");
    const strip = element("div", "strip"), near = element("ul", "near"), prefixTitle = element("h3");
    strip.setAttribute("role", "img");
    strip.append(...data.prefix.map(() => element("i")));
    if (before.length) said.append(prompt);
    said.append(tokens, told, insteadTitle, instead, prefixTitle, strip, near);
    root.append(figure, said);

    const buttons = data.tokens.map((token, index) => {
      const button = element("button", token.content ? "" : "soft", token.text.trim() || "␣");
      button.type = "button";
      button.style.setProperty("--sure", Math.exp(token.log_prob));
      button.tabIndex = index ? -1 : 0;
      button.onpointerenter = (event) => { if (event.pointerType === "mouse") show(index); };
      button.onfocus = () => { buttons.forEach((other) => { other.tabIndex = other === button ? 0 : -1; }); focused = button.matches(":focus-visible") ? index : -1; show(index); };
      button.onclick = () => { [pinned, focused] = [pinned === index ? -1 : index, -1]; show(pinned); };
      button.onkeydown = (event) => {
        const to = { ArrowRight: index + 1, ArrowLeft: index - 1, ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: buttons.length - 1 }[event.key];
        if (buttons[to]) { event.preventDefault(); buttons[to].focus(); }
      };
      return button;
    });
    tokens.append(...buttons);
    tokens.onpointerleave = (event) => { if (event.pointerType === "mouse") show(focused < 0 ? pinned : focused); };
    tokens.onfocusout = (event) => { if (!tokens.contains(event.relatedTarget)) { focused = -1; show(pinned); } };
    // Of the tokens the one that was chosen, the one that keys went to, and the one that is shown.
    let pinned = -1, focused = -1, shown = -1;
    root.start = () => { pinned = focused = -1; show(-1); };

    const original = new Image();
    function show(index) {
      shown = index;
      const token = data.tokens[index], count = data.prefix.length;
      const hardly = occlusion && token && data.largest[index] < HARDLY, strength = hardly ? FAINT : 1;
      buttons.forEach((button, i) => {
        button.classList.toggle("on", i === index);
        button.setAttribute("aria-pressed", i === pinned);
      });
      // Each by the most relevant of them and the prefix.
      const words = token?.words ?? [], strongest = Math.max(...words, ...(token?.prefix ?? []), 1e-30);
      [...before, ...buttons].forEach((word, i) => word.style.setProperty("--tint", Math.max(0, (words[i] ?? 0) / strongest)));
      const shares = token ? token.prefix : [...Array(count).keys()].map((i) => sum(data.tokens.map((t) => t.content ? Math.max(0, t.prefix[i]) / (Math.max(...t.prefix) || 1) : 0)));
      const most = Math.max(...shares, 1e-30);
      [...strip.children].forEach((bar, i) => bar.style.setProperty("--share", Math.max(0, shares[i]) / most));
      const order = token ? [...Array(count).keys()].sort((a, b) => shares[b] - shares[a]) : [...Array(count).keys()];
      prefixTitle.textContent = token ? "Prefix vectors it came from, and the tokens nearest to them" : "Prefix vectors, and the tokens nearest to them";
      strip.setAttribute("aria-label", `Relevance of the ${count} prefix vectors; most of all number ${shares.indexOf(Math.max(...shares)) + 1}`);
      near.replaceChildren(...order.map((i) => {
        const line = element("li");
        line.append(element("b", "", String(i + 1)), ...data.prefix[i].neighbors.map((neighbor) => {
          const name = code(neighbor.text);
          name.title = `cosine ${neighbor.cosine.toFixed(3)}`;
          return name;
        }));
        return line;
      }));
      near.scrollTop = 0;
      insteadTitle.hidden = instead.hidden = !token;
      if (token) {
        const rows = token.alternatives.map((other) => [code(other.text), Math.exp(other.log_prob), percent(Math.exp(other.log_prob)), other.id === token.id]);
        if (!rows.some(([, , , own]) => own)) rows.push([code(token.text), Math.exp(token.log_prob), percent(Math.exp(token.log_prob)), true]);
        bars(instead, rows, Math.max(...rows.map(([, share]) => share), 1e-9));
        const share = percent(token.image_share);
        const from = `${share} of its relevance is the image's prefix${share === "100%" ? "" : ", the rest earlier words (tinted)"}`;
        const lost = Math.max(0, ...token.cells) * data.largest[index];
        const effect = !occlusion ? "" : hardly ? " Covering a part has hardly any effect on it: the map is faint." : ` The most that covering a part costs: ${lost.toFixed(2)} of its log-probability.`;
        told.textContent = `“${token.text.trim()}” with a probability of ${percent(Math.exp(token.log_prob))}; ${from}. Most relevant: ${place(token.cells, data.side)}.${effect}`;
      } else {
        told.textContent = "Point at a word, or choose one by arrow keys, to see which part of the image and which vectors it came from. Lines under words: their probability.";
      }
      const cells = token && box.checked ? token.cells : null;
      canvas.setAttribute("aria-label", token ? `Where “${token.text.trim()}” came from: mostly ${place(token.cells, data.side)}` : `The image, as the encoder saw it: ${data.caption}`);
      scale.style.visibility = cells ? "visible" : "hidden";
      legend(colors, occlusion ? -1 : 0, strength);
      if (original.complete && original.naturalWidth) heat(canvas, original, cells, data.side, strength);
    }
    original.onload = () => show(shown);
    original.src = image;
    show(-1);
    return root;
  };
})();
