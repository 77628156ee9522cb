// Puts two thumbs into every element that names a completion: <span data-completion="chatcmpl-..."></span>.
// <script src="thumbs.js" data-feedback="https://llm.example/v1/feedback" defer></script>
const FEEDBACK = document.currentScript.dataset.feedback;

async function vote(completion, thumb) {
  const headers = { "content-type": "application/json", "idempotency-key": crypto.randomUUID() };
  const given = { method: "POST", headers, body: JSON.stringify({ completion_id: completion, thumb }) };
  const call = () => thumb ? fetch(FEEDBACK, given)
    : fetch(`${FEEDBACK}/${completion}?signal=thumb`, { method: "DELETE", headers });
  for (let tries = 0; tries < 5; tries++) {
    const reply = await call().catch(() => null);
    if (reply && reply.status !== 429 && reply.status !== 503) return reply.ok;
    const seconds = Number(reply?.headers.get("retry-after")) || 2 ** tries;
    await new Promise((done) => setTimeout(done, 1000 * seconds));
  }
  return false;
}

for (const place of document.querySelectorAll("[data-completion]")) {
  for (const [thumb, sign] of [["up", "👍"], ["down", "👎"]]) {
    const button = Object.assign(document.createElement("button"), { textContent: sign, ariaLabel: thumb, ariaPressed: "false" });
    button.onclick = async () => {
      const taken = button.ariaPressed === "true";  // pressed once more: the vote is taken back
      if (!await vote(place.dataset.completion, taken ? null : thumb)) return;
      for (const other of place.children) other.ariaPressed = String(other === button && !taken);
    };
    place.append(button);
  }
}
