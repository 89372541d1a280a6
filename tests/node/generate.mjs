// Greedy answers of an exported folder in transformers.js, from local files only.
//
//   node generate.mjs request.json
//
// request.json: {"folder": DIR, "max_new_tokens": N, "dtype"?: "fp32" | "q4" | ...,
//                "pairs": [{"image": FILE, "prompt": TEXT}, ...]}
// stdout: one JSON document, [{"tokens": [...], "text": "..."}, ...]; everything else goes to stderr.

import { readFileSync } from "node:fs";
import path from "node:path";
import { AutoModelForImageTextToText, AutoProcessor, RawImage, env } from "@huggingface/transformers";

console.log = console.error; // the library may print; stdout belongs to the result

const request = JSON.parse(readFileSync(process.argv[2], "utf8"));
const folder = path.resolve(request.folder);
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder);
const name = path.basename(folder);

const processor = await AutoProcessor.from_pretrained(name);
const options = request.dtype ? { dtype: request.dtype } : {};
const model = await AutoModelForImageTextToText.from_pretrained(name, { device: "cpu", ...options });

const answers = [];
for (const pair of request.pairs) {
    const image = await RawImage.read(pair.image);
    const content = [{ type: "image" }, { type: "text", text: pair.prompt }];
    const text = processor.apply_chat_template([{ role: "user", content }], { add_generation_prompt: true });
    const inputs = await processor(image, text, { add_special_tokens: false });
    const output = await model.generate({
        ...inputs,
        do_sample: false,
        max_new_tokens: request.max_new_tokens,
    });
    const tokens = output.tolist()[0].slice(inputs.input_ids.dims.at(-1)).map(Number);
    answers.push({ tokens, text: processor.decode(tokens, { skip_special_tokens: true }) });
}
process.stdout.write(JSON.stringify(answers) + "\n");
process.exit(0);
