// Clock serves a page, its static assets, and the time.
import express from "express";

const greeting = "Hello from a Node web app";
const app = express();
app.get("/", (req, res) => {
  res.send(`<title>${greeting}</title><link rel=stylesheet href=style.css><p id=time></p><script src=browser.js></script>\n`);
});
app.get("/time", (req, res) => res.json({ time: new Date().toISOString(), user: process.getuid() }));
app.use(express.static("public"));
const server = app.listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
