// Muster's own scripts. Every page is complete without them; they make it live and quick.
import "./parts.js";
import "./run.js";
import "./board.js";
import "./composer.js";
import "./review.js";
import "./list.js";
import "./choices.js";
import "./keys.js";
