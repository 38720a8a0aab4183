/** Loads a model in a separate process and prints, as JSON, the most memory that its arrays took. */
import { diskStorage, type Storage } from '@peftjs/core';
import { fromPretrained, type WeightDtype } from '@peftjs/models';

const [source = '', way, dtype = 'fp32'] = process.argv.slice(2) as [string?, string?, WeightDtype?];
const { gc } = globalThis as { readonly gc?: () => void };
const arrays = (): number => process.memoryUsage().arrayBuffers;

gc?.();
const before = arrays();
let peak = 0;
const look = (): void => {
  peak = Math.max(peak, arrays() - before);
};
const { open, ...whole } = diskStorage();
const storage: Storage = way === 'whole' || open === undefined ? whole : { ...whole, open };
const timer = setInterval(look, 2);
const model = await fromPretrained(source, { storage, onProgress: look, numLabels: 3, dtype });
clearInterval(timer);
look();
const weights = Object.values(model.weights).reduce((sum, { data }) => sum + data.byteLength, 0);
process.stdout.write(JSON.stringify({ weights, peak }));
