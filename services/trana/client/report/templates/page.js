"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";

  function make(parent, name, attributes) {
    const element = parent.appendChild(document.createElementNS(SVG, name));
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  function write(value) {
    if (value === null) return "no number";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(3).replace("e+", "e").replaceAll("-", "−");
    return String(Number(value.toPrecision(5))).replace("-", "−");
  }

  // An axis as it is written beside its drawing: what lies where.
  function axis(text, isLog) {
    const [low, high, begin, end] = text.split(" ").map(Number);
    const bend = isLog ? Math.log : (value) => value;
    return {
      place: (value) => begin + ((bend(value) - bend(low)) / (bend(high) - bend(low))) * (end - begin),
      read: (place) => low + ((place - begin) / (end - begin)) * (high - low),
    };
  }

  function nearest(epochs, wanted) {
    let low = 0;
    let high = epochs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (epochs[middle] < wanted) low = middle + 1;
      else high = middle;
    }
    return low > 0 && wanted - epochs[low - 1] < epochs[low] - wanted ? low - 1 : low;
  }

  function equip(figure) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const plot = figure.querySelector(".plot");
    const tip = figure.querySelector(".tip");
    let current = -1;

    const seen = () => [...plot.querySelectorAll("svg")].find((svg) => svg.getClientRects().length > 0);

    function hide() {
      current = -1;
      tip.hidden = true;
      for (const cursor of plot.querySelectorAll(".cursor")) cursor.replaceChildren();
    }

    function tell(index) {
      const title = document.createElement("strong");
      title.textContent = "epoch " + data.epochs[index].toLocaleString("en");
      const lines = data.lines.map((line) => {
        const row = document.createElement("div");
        const error = line.kind === "val" && data.errors.length ? data.errors[index] : null;
        row.textContent = line.name + " " + write(line.values[index]) + (error ? " ± " + write(error) : "");
        return row;
      });
      tip.replaceChildren(title, ...lines);
      tip.hidden = false;
    }

    function show(index) {
      const svg = seen();
      if (!svg || !data.epochs.length) return;
      current = Math.max(0, Math.min(index, data.epochs.length - 1));
      const across = axis(svg.dataset.x, false);
      const up = axis(svg.dataset.y, svg.dataset.scale === "log");
      const x = across.place(data.epochs[current]);
      const [, , begin, end] = svg.dataset.y.split(" ").map(Number);
      const cursor = svg.querySelector(".cursor");
      cursor.replaceChildren();
      make(cursor, "line", { x1: x, x2: x, y1: begin, y2: end });
      for (const line of data.lines) {
        const value = line.values[current];
        if (value !== null) make(cursor, "circle", { cx: x, cy: up.place(value), r: 4.5, class: line.kind });
      }
      tell(current);
      const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      const left = x * scale + 12;
      const room = plot.clientWidth - tip.offsetWidth;
      // On the other side of the line where there is no room on this one.
      tip.style.left = Math.max(0, left > room ? x * scale - 12 - tip.offsetWidth : left) + "px";
      tip.style.top = end * scale + "px";
    }

    plot.addEventListener("pointermove", (event) => {
      const svg = seen();
      if (!svg) return;
      const box = svg.getBoundingClientRect();
      const place = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      show(nearest(data.epochs, axis(svg.dataset.x, false).read(place)));
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const last = data.epochs.length - 1;
      const to = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: last }[event.key];
      if (event.key === "Escape") hide();
      else if (to !== undefined) {
        event.preventDefault();
        show(to);
      }
    });
    for (const button of figure.querySelectorAll(".switch button")) {
      button.addEventListener("click", () => {
        hide();
        for (const other of figure.querySelectorAll(".switch button")) {
          other.setAttribute("aria-pressed", String(other === button));
        }
        for (const drawing of plot.querySelectorAll(".drawing")) drawing.hidden = drawing.dataset.scale !== button.dataset.scale;
      });
    }
  }

  document.querySelectorAll("figure.chart").forEach(equip);
})();
