// The least that a relay on the ws library can do: one map of sockets, no check of anything. `node ws_relay.js PORT`
const { WebSocketServer } = require("ws");

const sockets = new Map();
const server = new WebSocketServer({ port: Number(process.argv[2]), host: "127.0.0.1", perMessageDeflate: false, backlog: 1024 });
server.on("connection", (socket, request) => {
  const id = request.url.split("id=")[1];
  sockets.set(id, socket);
  socket.on("message", (data) => {
    const message = JSON.parse(data);
    const target = sockets.get(message.target);
    if (target) target.send(JSON.stringify({ source: id, candidate: message.candidate }));
  });
  socket.on("close", () => sockets.delete(id));
  socket.on("error", () => {});
  socket.send('{"open":true}');
});
setInterval(() => server.clients.forEach((socket) => socket.ping()), 25000);
server.on("listening", () => console.log("listening"));
