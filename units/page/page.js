// The page of a browser unit: it asks for the microphone, connects to the unit by WebRTC, and shows what it is told.
// It holds no key but the token of this tab. All text is shown as text.
"use strict";

const by = (id) => document.getElementById(id);
const talk = by("talk");
let channel = null;   // the data channel
let microphone = null; // the track, once the user has allowed it
let sender = null;
let talking = false;
let meters = null;

function show(text) { by("state").textContent = text; }
function fault(text) { by("fault").textContent = text; by("fault").hidden = !text; }
function link(state, text) { by("link").className = "link " + state; by("link-text").textContent = text; }

function say(who, label, text) {
	const empty = document.querySelector("#log .empty");
	if (empty) empty.remove();
	const item = document.createElement("li");
	item.className = who;
	const small = document.createElement("small");
	small.textContent = label;
	item.append(small, text);
	by("log").append(item);
	while (by("log").children.length > 50) by("log").firstChild.remove();
	item.scrollIntoView({ block: "nearest" });
}

function button(on) {
	talking = on;
	talk.classList.toggle("on", on);
	talk.setAttribute("aria-pressed", on);
	by("talk-text").textContent = on ? "Stop" : "Talk";
	if (microphone) microphone.enabled = on;
}

// loud makes the answer audible, or silent at once.
function loud(on) { by("answer").muted = !on; }

const heard = {
	ready: (t) => { talk.disabled = false; show(t); },
	calling: show,
	waiting: show,
	listening: (t) => { fault(""); show(t); },
	recognised: (t) => { say("you", "Understood", t); show("Looking it up ..."); },
	answer: (t) => say("them", "Answer", t),
	answering: () => { loud(true); show("Answering. Speak to interrupt."); },
	answered: () => show("Listening."),
	hush: () => { loud(false); show("Listening."); },
	fault: (t) => { fault(t); button(false); show("Press Talk to try again."); },
	ended: (t) => { button(false); show(t); },
	taken: (t) => { button(false); talk.disabled = true; show(t); },
};

async function token() {
	const key = location.hash.slice(1);
	if (key) {
		history.replaceState(null, "", location.pathname);
		const r = await fetch("/tab", { method: "POST", body: JSON.stringify({ key }) });
		if (!r.ok) throw new Error(await r.text());
		sessionStorage.setItem("token", (await r.json()).token);
	}
	const kept = sessionStorage.getItem("token");
	if (!kept) throw new Error("Open this page by the link that the unit printed.");
	return kept;
}

async function gathered(pc) {
	if (pc.iceGatheringState === "complete") return;
	await new Promise((done) => {
		const timer = setTimeout(done, 2000);
		pc.addEventListener("icegatheringstatechange", () => {
			if (pc.iceGatheringState === "complete") { clearTimeout(timer); done(); }
		});
	});
}

async function connect() {
	const mine = await token();
	const pc = new RTCPeerConnection();
	window.connection = pc; // for whoever looks at its statistics
	sender = pc.addTransceiver("audio", { direction: "sendrecv" }).sender;
	pc.ontrack = (e) => {
		by("answer").srcObject = new MediaStream([e.track]);
		if (e.receiver.jitterBufferTarget !== undefined) e.receiver.jitterBufferTarget = 20;
		meters.watch("answer", e.track);
	};
	channel = pc.createDataChannel("ninja");
	channel.onopen = () => link("up", "Connected");
	channel.onclose = () => lost();
	channel.onmessage = (e) => {
		const m = JSON.parse(e.data);
		window.told.push({ at: performance.now(), kind: m.kind, text: m.text || "" });
		if (window.told.length > 200) window.told.shift();
		if (Object.hasOwn(heard, m.kind)) heard[m.kind](m.text || "");
	};
	pc.onconnectionstatechange = () => {
		if (pc.connectionState === "failed" || pc.connectionState === "closed") lost();
	};
	await pc.setLocalDescription();
	await gathered(pc);
	const r = await fetch("/offer", {
		method: "POST", headers: { Authorization: "Bearer " + mine, "Content-Type": "application/sdp" }, body: pc.localDescription.sdp,
	});
	if (!r.ok) throw new Error(await r.text());
	await pc.setRemoteDescription({ type: "answer", sdp: await r.text() });
}

function lost() {
	if (talk.disabled) { link("down", "Not connected"); return; }
	link("down", "Not connected");
	button(false);
	talk.disabled = true;
	show("The connection to the unit is lost. Load this page again.");
}

// Meters measure how loud a track is: the voice for the bar, the answer for whoever asks.
class Meters {
	constructor() {
		this.context = new AudioContext();
		this.watched = {};
		this.energy = { voice: 0, answer: 0 };
		setInterval(() => this.measure(), 50);
	}
	watch(name, track) {
		const analyser = this.context.createAnalyser();
		analyser.fftSize = 1024;
		this.context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
		this.watched[name] = { analyser, samples: new Float32Array(analyser.fftSize), level: 0 };
	}
	measure() {
		for (const [name, w] of Object.entries(this.watched)) {
			w.analyser.getFloatTimeDomainData(w.samples);
			w.level = Math.sqrt(w.samples.reduce((s, x) => s + x * x, 0) / w.samples.length);
			this.energy[name] += w.level * w.level * 0.05;
		}
		by("level").value = talking && this.watched.voice ? Math.min(1, this.watched.voice.level * 4) : 0;
	}
}

async function begin() {
	try {
		if (!microphone) {
			show("Your browser asks whether this page may use the microphone.");
			const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: false, autoGainControl: false } });
			microphone = stream.getAudioTracks()[0];
			await sender.replaceTrack(microphone);
			meters.watch("voice", microphone);
		}
		await meters.context.resume();
	} catch (e) {
		fault("The microphone cannot be used (" + e.message + "). Allow it for this page and press Talk again.");
		return;
	}
	fault("");
	loud(true);
	button(true);
	channel.send(JSON.stringify({ kind: "talk" }));
}

talk.addEventListener("click", () => {
	if (!talking) { begin(); return; }
	button(false);
	channel.send(JSON.stringify({ kind: "stop" }));
});

window.told = [];
meters = new Meters();
window.meters = meters;
connect().catch((e) => { link("down", "Not connected"); fault(e.message.trim()); show(""); });
