// Calls what was deployed from Python, from JavaScript.
import { ModalClient } from "modal";

async function part(name, body) {
  try {
    await body();
    console.log(`works: ${name}`);
  } catch (error) {
    console.log(`fails: ${name}: ${error.name}: ${error.message.replaceAll("\n", " ")}`);
  }
}

function equal(found, expected) {
  const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${left} is not ${right}`);
}

const modal = new ModalClient();

await part("Function.from_name", async () => {
  const shout = await modal.functions.fromName("library", "shout");
  equal(await shout.remote(["hello"]), "HELLO");
  equal(await shout.remote([], { text: "named" }), "NAMED");
});
await part("spawn from another program", async () => {
  const rest = await modal.functions.fromName("library", "rest");
  const call = await rest.spawn([0.5]);
  const later = await modal.functionCalls.fromId(call.functionCallId);
  equal(await later.get({ timeoutMs: 30000 }), "rested");
});
await part("exception from another program", async () => {
  const refuse = await modal.functions.fromName("library", "refuse");
  try {
    await refuse.remote([]);
  } catch (error) {
    if (error.message.includes("not today")) return;
    throw error;
  }
  throw new Error("nothing was raised");
});
await part("Cls.from_name", async () => {
  const shelf = await modal.cls.fromName("library", "Shelf");
  const toys = await shelf.instance({ label: "toys" });
  equal(await toys.method("add").remote(["bear"]), ["toys", "bear"]);
});
await part("nothing of that name", async () => {
  try {
    await modal.functions.fromName("library", "nobody");
  } catch (error) {
    if (error.name === "NotFoundError") return;
    throw error;
  }
  throw new Error("something was found");
});
modal.close();
