// Between the player of the page where a browser watches as a peer, and that page, which has the film's pieces. A player
// can read a URL and nothing else, so this answers URLs below `ui/film/` with what the page hands out, and no others.
const FILM = new URL("film/", self.location).pathname;

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
// Any message keeps the worker from being put to sleep while a film waits for its pieces.
addEventListener("message", (event) => event.data === "claim" && event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  if (new URL(event.request.url).pathname.startsWith(FILM)) event.respondWith(film(event));
});

async function film({ request, clientId }) {
  const page = clientId && (await clients.get(clientId));
  if (!page) return new Response("no page hands this film out", { status: 404 });
  const { port1: port, port2 } = new MessageChannel();
  const said = () => new Promise((done) => (port.onmessage = ({ data }) => done(data)));
  const answered = said();
  page.postMessage({ film: request.url, range: request.headers.get("range") }, [port2]);
  const { status, headers } = await answered;
  if (status >= 400) return new Response(null, { status, headers });
  const body = new ReadableStream(
    {
      async pull(controller) {
        const next = said();
        port.postMessage("more");
        const part = await next;
        if (part) controller.enqueue(part);
        else controller.close();
      },
      cancel: () => port.postMessage("stop"),
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { status, headers });
}
