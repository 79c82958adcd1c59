import { pad } from "./pad.js";

document.title = "The time";

async function show() {
  const { time } = await (await fetch("/time")).json();
  const d = new Date(time);
  document.getElementById("time").textContent = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}
setInterval(show, 1000);
