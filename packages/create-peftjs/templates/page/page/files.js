// The files of the page: those in public/assets are read, all others are kept in the browser's IndexedDB.

const ASSETS = '/assets/';
const assets = fetch(`${ASSETS}files.json`).then((response) => response.json());
const isAsset = async (path) => (await assets).includes(path);

const database = new Promise((resolve, reject) => {
  const request = indexedDB.open('peftjs');
  request.onupgradeneeded = () => request.result.createObjectStore('files');
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

async function inDatabase(mode, work) {
  const transaction = (await database).transaction('files', mode);
  const request = work(transaction.objectStore('files'));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(transaction.error); // the error of a request aborts it, and is there only then
  });
}

async function fetched(path) {
  const response = await fetch(ASSETS + path);
  if (!response.ok) throw new Error(`${path}: the server answers ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A storage of peftjs. */
export const files = {
  async read(path) {
    if (await isAsset(path)) return fetched(path);
    const bytes = await inDatabase('readonly', (store) => store.get(path));
    if (bytes === undefined) throw new Error(`there is no ${path}`);
    return bytes;
  },
  async exists(path) {
    return (await isAsset(path)) || (await inDatabase('readonly', (store) => store.count(path))) > 0;
  },
  async write(path, bytes) {
    await inDatabase('readwrite', (store) => store.put(bytes, path));
  },
  // One transaction: an adapter is saved whole or not at all.
  async writeFolders(folders) {
    const all = folders.flatMap(({ config, others }) => [config, ...others]);
    await inDatabase('readwrite', (store) => all.forEach(({ path, bytes }) => store.put(bytes, path)));
  },
};
