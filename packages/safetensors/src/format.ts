// What the readers and writers of other formats of tensor files share with those of safetensors.
export { inFile, quote, reason } from './errors.js';
export { lazyFile, readExactly, type Layout, type Location } from './file.js';
export { allocated, entriesOf } from './write.js';
