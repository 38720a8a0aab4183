export { CreateError, createProject, starters, type StarterName } from './create.js';
export { main } from './main.js';
